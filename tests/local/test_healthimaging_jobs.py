"""StartDICOMImportJob and its kin, asked through boto3: what is refused and how, what is remembered, and the life of a job."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from fastscp.local.healthimaging import Fault
from tests.local.conftest import OpenService, Service
from tests.local.support import INPUT_BUCKET, OUTPUT_BUCKET, ROLE, dicom_file
from tests.peers.server import wait_until


def refused(call: Any, *arguments: Any, **values: Any) -> tuple[str, int, str]:
    """Error code, HTTP status and message of a call that is refused."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **values)
    answer: Any = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jobName", "with space"),
        ("jobName", "x" * 65),
        ("clientToken", "slash/"),
        ("clientToken", "x" * 65),
        ("clientToken", ""),
        ("dataAccessRoleArn", "arn:aws:iam::12:role/import"),
        ("dataAccessRoleArn", None),
        ("inputS3Uri", "https://bucket/in/"),
        ("inputS3Uri", f"s3://{INPUT_BUCKET}/" + "x" * 1024),
        ("inputS3Uri", None),
        ("outputS3Uri", "s3://A/"),
        ("outputS3Uri", None),
        ("inputOwnerAccountId", "12345"),
        ("importConfiguration", {}),
    ],
)
def test_a_request_against_the_model_is_a_validation_exception_that_names_the_member(service: Service, field: str, value: Any) -> None:
    code, status, message = refused(service.start_job, "token", **{field: value})
    assert (code, status) == ("ValidationException", 400)
    assert field in message or (field == "importConfiguration" and "exactly one" in message)
    assert service.emulator.jobs.newest_first(service.datastore_id) == []


def test_a_data_store_that_is_not_there(service: Service) -> None:
    absent = "0" * 32
    assert refused(service.start_job, "token", datastoreId=absent)[:2] == ("ResourceNotFoundException", 404)
    assert refused(service.imaging.get_datastore, datastoreId=absent)[:2] == ("ResourceNotFoundException", 404)
    assert refused(service.imaging.get_datastore, datastoreId="short")[:2] == ("ValidationException", 400)


@pytest.mark.parametrize("field", ["inputS3Uri", "outputS3Uri"])
def test_a_bucket_that_is_not_there_is_one_that_the_role_cannot_access(service: Service, field: str) -> None:
    assert refused(service.start_job, "token", **{field: "s3://nobodys-bucket/in/"})[:2] == ("AccessDeniedException", 403)


def test_data_stores_are_made_once_for_a_token_and_listed(service: Service) -> None:
    made = service.imaging.create_datastore(datastoreName="one", clientToken="a")
    service.clock.advance(60)
    assert service.imaging.create_datastore(datastoreName="one", clientToken="a")["datastoreId"] == made["datastoreId"]
    properties = service.imaging.get_datastore(datastoreId=made["datastoreId"])["datastoreProperties"]
    assert (properties["datastoreName"], properties["datastoreStatus"]) == ("one", "ACTIVE")
    assert [one["datastoreName"] for one in service.imaging.list_datastores()["datastoreSummaries"]] == ["test", "one"]


def test_a_token_is_the_same_job_until_it_is_forgotten(open_service: OpenService) -> None:
    service = open_service(token_memory_s=100)
    first = service.start_job("token")["jobId"]
    service.clock.advance(50)
    assert service.start_job("token")["jobId"] == first
    assert refused(service.start_job, "token", jobName="other")[:2] == ("ConflictException", 409)
    service.clock.advance(51)
    assert service.start_job("token")["jobId"] != first


def test_more_starts_than_a_burst_of_two_and_one_a_second_are_throttled(service: Service) -> None:
    service.start_job("a")
    service.start_job("b")
    assert refused(service.start_job, "c")[:2] == ("ThrottlingException", 429)
    service.clock.advance(0.9)
    assert refused(service.start_job, "c")[:2] == ("ThrottlingException", 429)
    service.clock.advance(0.1)
    service.start_job("c")
    assert refused(service.start_job, "d")[:2] == ("ThrottlingException", 429)
    service.clock.advance(100)
    for token in ("e", "f"):
        service.start_job(token)
    assert refused(service.start_job, "g")[:2] == ("ThrottlingException", 429)
    assert len(service.emulator.faults.answered("StartDICOMImportJob", 200)) == 5


def test_more_jobs_at_once_than_the_quota(open_service: OpenService) -> None:
    service = open_service(concurrent_jobs=2, rates={})
    service.put("in/a.dcm", dicom_file())
    jobs = [service.start_job(token)["jobId"] for token in ("a", "b")]
    assert refused(service.start_job, "c")[:2] == ("ServiceQuotaExceededException", 402)

    def ended() -> bool:
        service.clock.advance(1)
        return all(service.job(job)["jobStatus"] == "COMPLETED" for job in jobs)

    wait_until(ended, "both jobs end")
    service.start_job("c")


@pytest.mark.parametrize(("limits", "what"), [({"job_files": 2}, "3 files"), ({"job_bytes": 1000}, "bytes")])
def test_more_files_or_bytes_than_the_quota(open_service: OpenService, limits: dict[str, int], what: str) -> None:
    service = open_service(**limits)
    for number in range(3):
        service.put(f"in/{number}.dcm", dicom_file())
    code, status, message = refused(service.start_job, "token")
    assert (code, status) == ("ServiceQuotaExceededException", 402)
    assert what in message


def test_the_states_of_a_job_and_the_lists_that_it_is_in(open_service: OpenService) -> None:
    service = open_service(submitted_s=10, in_progress_s=20, file_s=0)
    service.put("in/a.dcm", dicom_file())
    started = service.start_job("token")
    job_id = started["jobId"]
    assert started["jobStatus"] == "SUBMITTED"
    assert started["submittedAt"].timestamp() == service.clock.now_s()
    seen = [service.job(job_id)["jobStatus"]]
    for seconds, status in ((11, "IN_PROGRESS"), (21, "COMPLETED")):
        service.clock.advance(seconds)
        wait_until(lambda status=status: service.job(job_id)["jobStatus"] == status, status)  # type: ignore[misc]
        seen.append(status)
        listed = service.imaging.list_dicom_import_jobs(datastoreId=service.datastore_id, jobStatus=status)["jobSummaries"]
        assert [job["jobId"] for job in listed] == [job_id]
    assert seen == ["SUBMITTED", "IN_PROGRESS", "COMPLETED"]
    assert service.imaging.list_dicom_import_jobs(datastoreId=service.datastore_id, jobStatus="SUBMITTED")["jobSummaries"] == []
    job = service.job(job_id)
    assert job["endedAt"] > job["submittedAt"]
    assert (job["jobName"], job["dataAccessRoleArn"]) == ("token", ROLE)
    assert (job["inputS3Uri"], job["outputS3Uri"]) == (f"s3://{INPUT_BUCKET}/in/", f"s3://{OUTPUT_BUCKET}/out/")
    assert "message" not in job


def test_jobs_are_listed_in_pages_the_newest_first(open_service: OpenService) -> None:
    service = open_service(rates={})
    for number in range(5):
        service.start_job(f"t{number}")
        service.clock.advance(1)
    pages = service.imaging.get_paginator("list_dicom_import_jobs").paginate(
        datastoreId=service.datastore_id, PaginationConfig={"PageSize": 2}
    )
    assert [[job["jobName"] for job in page["jobSummaries"]] for page in pages] == [["t4", "t3"], ["t2", "t1"], ["t0"]]
    answer = refused(service.imaging.list_dicom_import_jobs, datastoreId=service.datastore_id, nextToken="@")
    assert answer[:2] == ("ValidationException", 400)


def test_a_prefix_without_files_fails_the_job(service: Service) -> None:
    job = service.run_job("token", "nothing/")
    assert job["jobStatus"] == "FAILED"
    assert "no files" in job["message"]
    assert "Contents" not in service.s3.list_objects_v2(Bucket=OUTPUT_BUCKET)


def test_injected_errors_hit_the_call_that_they_are_for(open_service: OpenService) -> None:
    service = open_service(rates={})
    faults = service.emulator.faults
    faults.inject(Fault("StartDICOMImportJob", 2, "InternalServerException"))
    faults.inject(Fault("StartDICOMImportJob", 3, "ThrottlingException", reply_lost=True))
    service.start_job("a")
    assert refused(service.start_job, "b")[:2] == ("InternalServerException", 500)
    assert refused(service.start_job, "c")[:2] == ("ThrottlingException", 429)
    # The second was not carried out, the third was.
    assert sorted(job.name for job in service.emulator.jobs.newest_first(service.datastore_id)) == ["a", "c"]
    assert service.start_job("c")["jobId"] in {job.job_id for job in service.emulator.jobs.newest_first(service.datastore_id)}
    assert [call.status for call in faults.answered("StartDICOMImportJob")] == [200, 500, 429, 200]


def test_an_operation_that_the_emulator_lacks_says_so(service: Service) -> None:
    code, _, message = refused(service.imaging.delete_datastore, datastoreId=service.datastore_id)
    assert (code, "DeleteDatastore" in message) == ("InternalServerException", True)
