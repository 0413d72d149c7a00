"""What an import job makes of files: its output, image sets primary and not, and how they are found again."""

import gzip
import json
import socket
from typing import Any

import pytest

from tests.local.conftest import Service
from tests.local.support import INPUT_BUCKET, OUTPUT_BUCKET, dicom_file, output_of
from tests.peers.datasets import new_uid


def summaries(service: Service, **criteria: Any) -> list[dict[str, Any]]:
    answer = service.imaging.search_image_sets(datastoreId=service.datastore_id, searchCriteria=criteria)
    found: list[dict[str, Any]] = answer["imageSetsMetadataSummaries"]
    return found


def test_the_output_of_a_job_is_as_documented(service: Service) -> None:
    study, series = new_uid(), new_uid()
    service.put("in/good.dcm", dicom_file(StudyInstanceUID=study, SeriesInstanceUID=series))
    service.put("in/sub/folder/warned.dcm", dicom_file(StudyInstanceUID=study, SeriesInstanceUID=series, syntax="1.2.3.4"))
    service.put("in/cut.dcm", dicom_file()[:-20])
    service.put("in/text.dcm", b"no DICOM file")
    service.put("in/without.dcm", dicom_file(SeriesInstanceUID=None))
    service.put("other/stranger.dcm", dicom_file())
    job = service.run_job("token")
    assert job["jobStatus"] == "COMPLETED"
    output = output_of(service.s3, job)
    assert set(output) == {"job-output-manifest.json", "SUCCESS/success.ndjson", "WARNING/warning.ndjson", "FAILURE/failure.ndjson"}
    (image_set,) = summaries(service)
    stored = {"imageSetId": image_set["imageSetId"], "imageSetVersion": 1, "isPrimary": True}
    assert output["SUCCESS/success.ndjson"] == [
        {"inputFile": "in/good.dcm", "importResponse": stored},
        {"inputFile": "in/sub/folder/warned.dcm", "importResponse": stored},
    ]
    (warned,) = output["WARNING/warning.ndjson"]
    (warning,) = warned["importResponse"].pop("warnings")
    assert warned == {"inputFile": "in/sub/folder/warned.dcm", "importResponse": stored}
    assert (warning["warning_reason_code"], warning["type"]) == (0xB120, "UNSUPPORTED_TRANSFER_SYNTAX")
    assert [(line["inputFile"], line["exception"]) for line in output["FAILURE/failure.ndjson"]] == [
        ("in/cut.dcm", {"exceptionType": "ValidationException", "message": "the file ends within its pixel data"}),
        ("in/text.dcm", {"exceptionType": "ValidationException", "message": "the file is not a DICOM P10 file: no DICM prefix"}),
        ("in/without.dcm", {"exceptionType": "ValidationException", "message": "the attribute SeriesInstanceUID is missing"}),
    ]
    folder = f"s3://{OUTPUT_BUCKET}/out/{service.datastore_id}-DicomImport-{job['jobId']}/"
    assert output["job-output-manifest.json"] == {
        "jobSummary": {
            "jobId": job["jobId"],
            "datastoreId": service.datastore_id,
            "inputS3Uri": f"s3://{INPUT_BUCKET}/in/",
            "outputS3Uri": folder,
            "successOutputS3Uri": f"{folder}SUCCESS/",
            "failureOutputS3Uri": f"{folder}FAILURE/",
            "warningsOutputS3Uri": f"{folder}WARNING/",
            "numberOfScannedFiles": 5,
            "numberOfImportedFiles": 2,
            "numberOfFilesWithCustomerError": 3,
            "numberOfFilesWithServerError": 0,
            "numberOfGeneratedImageSets": 1,
            "imageSetsSummary": [{**stored, "numberOfMatchedSOPInstances": 2}],
        }
    }


def test_nothing_to_say_is_no_file(service: Service) -> None:
    service.put("in/good.dcm", dicom_file())
    assert set(output_of(service.s3, service.run_job("token"))) == {"job-output-manifest.json", "SUCCESS/success.ndjson"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dicom_file(PatientName="x" * 257), "the attribute PatientName has more than 256 characters"),
        (dicom_file()[: 132 + 4], "the attribute TransferSyntaxUID is missing"),
        (dicom_file(StudyInstanceUID=""), "the attribute StudyInstanceUID is missing"),
    ],
)
def test_why_a_file_is_not_imported(service: Service, content: bytes, message: str) -> None:
    service.put("in/a.dcm", content)
    (line,) = output_of(service.s3, service.run_job("token"))["FAILURE/failure.ndjson"]
    assert line["exception"]["message"] == message


@pytest.mark.parametrize(
    ("elements", "code"), [({"StudyInstanceUID": "1.2.03"}, 0xB201), ({"StudyID": "longer than sixteen characters"}, 0xB202)]
)
def test_what_is_imported_with_a_warning(service: Service, elements: dict[str, str], code: int) -> None:
    service.put("in/a.dcm", dicom_file(**elements))
    output = output_of(service.s3, service.run_job("token"))
    assert "FAILURE/failure.ndjson" not in output
    assert [warning["warning_reason_code"] for warning in output["WARNING/warning.ndjson"][0]["importResponse"]["warnings"]] == [code]


def test_a_series_that_two_jobs_bring_is_one_primary_image_set(service: Service) -> None:
    study, one, other = new_uid(), new_uid(), new_uid()
    for number in range(4):
        service.put(f"j{number % 2}/{number}.dcm", dicom_file(StudyInstanceUID=study, SeriesInstanceUID=one))
    service.put("j1/other.dcm", dicom_file(StudyInstanceUID=study, SeriesInstanceUID=other, Modality="MR"))
    service.run_job("a", "j0/")
    service.run_job("b", "j1/")
    found = {item["DICOMTags"]["DICOMSeriesInstanceUID"]: item for item in summaries(service)}
    assert set(found) == {one, other}
    assert [(found[uid]["version"], found[uid]["isPrimary"]) for uid in (one, other)] == [(2, True), (1, True)]
    assert found[one]["DICOMTags"]["DICOMNumberOfStudyRelatedInstances"] == 4
    versions = service.imaging.list_image_set_versions(datastoreId=service.datastore_id, imageSetId=found[one]["imageSetId"])
    assert [version["versionId"] for version in versions["imageSetPropertiesList"]] == ["2", "1"]


def test_the_same_instance_again_replaces_the_one_before(service: Service) -> None:
    uids = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid(), "SOPInstanceUID": new_uid()}
    for token, number in (("a", "1"), ("b", "2")):
        service.put(f"{token}/x.dcm", dicom_file(**uids, InstanceNumber=number))
        service.run_job(token, f"{token}/")
    (image_set,) = summaries(service)
    assert (image_set["version"], image_set["DICOMTags"]["DICOMNumberOfStudyRelatedInstances"]) == (2, 1)
    blob = service.imaging.get_image_set_metadata(datastoreId=service.datastore_id, imageSetId=image_set["imageSetId"])
    document = json.loads(gzip.decompress(blob["imageSetMetadataBlob"].read()))
    series = document["Study"]["Series"][uids["SeriesInstanceUID"]]
    assert series["Instances"][uids["SOPInstanceUID"]]["DICOM"]["InstanceNumber"] == "2"
    assert document["Patient"]["DICOM"]["PatientID"] == "TEST-1"


@pytest.mark.parametrize("change", [{"PatientID": "OTHER"}, {"AccessionNumber": "7"}, {"SeriesDescription": "x"}])
def test_what_contradicts_the_primary_image_set_goes_into_another(service: Service, change: dict[str, str]) -> None:
    uids = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid()}
    service.put("in/1.dcm", dicom_file(**uids))
    service.put("in/2.dcm", dicom_file(**uids, **change))
    service.put("in/3.dcm", dicom_file(**uids, **change))
    output = output_of(service.s3, service.run_job("token"))
    assert [line["importResponse"]["isPrimary"] for line in output["SUCCESS/success.ndjson"]] == [True, False, False]
    assert sorted((item["isPrimary"], item["DICOMTags"]["DICOMNumberOfStudyRelatedInstances"]) for item in summaries(service)) == [
        (False, 2),
        (True, 1),
    ]


def test_another_series_of_the_study_with_another_patient_is_not_primary(service: Service) -> None:
    study = new_uid()
    service.put("in/1.dcm", dicom_file(StudyInstanceUID=study))
    service.put("in/2.dcm", dicom_file(StudyInstanceUID=study, PatientName="Test^Two"))
    service.run_job("token")
    assert sorted(item["isPrimary"] for item in summaries(service)) == [False, True]


def test_image_sets_are_found_by_what_is_asked_for(service: Service) -> None:
    studies = [new_uid() for _ in range(3)]
    for number, study in enumerate(studies):
        service.put(f"{number}/x.dcm", dicom_file(StudyInstanceUID=study, PatientID=f"P{number}", StudyDate=f"2026010{number + 1}"))
        service.run_job(f"t{number}", f"{number}/")

    def found(**criteria: Any) -> list[str]:
        return [item["DICOMTags"]["DICOMStudyInstanceUID"] for item in summaries(service, **criteria)]

    def equal(**value: Any) -> list[dict[str, Any]]:
        return [{"operator": "EQUAL", "values": [value]}]

    assert found() == studies[::-1]
    assert found(filters=equal(DICOMPatientId="P1")) == [studies[1]]
    assert found(filters=equal(DICOMStudyInstanceUID=studies[2])) == [studies[2]]
    assert found(filters=equal(isPrimary=False)) == []
    days = [{"DICOMStudyDateAndTime": {"DICOMStudyDate": date}} for date in ("20260102", "20260103")]
    between = [{"operator": "BETWEEN", "values": days}]
    order = {"sortField": "DICOMStudyDateAndTime", "sortOrder": "ASC"}
    assert found(filters=between, sort=order) == studies[1:]
    image_set_id = summaries(service, filters=equal(DICOMPatientId="P0"))[0]["imageSetId"]
    answer = service.imaging.get_image_set(datastoreId=service.datastore_id, imageSetId=image_set_id)
    assert (answer["versionId"], answer["imageSetState"], answer["isPrimary"]) == ("1", "ACTIVE", True)


def test_a_client_that_puts_the_host_prefix_before_the_address_is_served_where_that_name_leads_here(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    resolve = socket.getaddrinfo

    def as_in_a_hosts_file(host: Any, *arguments: Any, **options: Any) -> Any:
        looked_up.append(host)
        return resolve("127.0.0.1" if host == "runtime-127.0.0.1" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", as_in_a_hosts_file)
    with_prefix = service.client("medical-imaging", inject_host_prefix=True)
    assert with_prefix.search_image_sets(datastoreId=service.datastore_id)["imageSetsMetadataSummaries"] == []
    assert "runtime-127.0.0.1" in looked_up
