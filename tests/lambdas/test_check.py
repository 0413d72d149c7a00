"""What a job wrote, in whatever form, gives every instance one class; the rows, the result object and quarantine say the same."""

import json
from typing import Any

import pytest

from check_status.check import check
from check_status.output import loads, truth
from importflow.errors import PermanentError, RetryableError
from importflow.imaging import Job
from start_import_job.start import start_job
from tests.lambdas.services import DATASTORE_ID
from tests.lambdas.world import BATCH_ID, KEYS, World
from trigger_import.claim import take_turn

BASE = f"imports/output/{BATCH_ID}/1/"
JOB_ID = "0" * 32
FOLDER = f"{DATASTORE_ID}-DicomImport-{JOB_ID}/"
SET = "a" * 32


def key(number: int) -> str:
    return KEYS.instance(BATCH_ID, "1.2", "1.2.1", f"1.2.1.{number}")


def started(world: World, instances: int = 4) -> None:
    """A batch whose job has ended, and has written nothing yet."""
    world.receive(instances=instances)
    assert world.trigger(KEYS.manifest(BATCH_ID)) == []
    take_turn(world.workflow, BATCH_ID, 1)
    start_job(world.workflow, BATCH_ID, 1)
    world.imaging.jobs[JOB_ID]["written"] = True
    world.clock.sleep(world.imaging.job_s)


def write(world: World, at: str = BASE + FOLDER, *, summary: Any = None, **files: list[Any]) -> None:
    for name, lines in files.items():
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        world.put(f"{at}{name.upper()}/{name}.ndjson", text.encode(), "results")
    world.put(f"{at}job-output-manifest.json", json.dumps({"jobSummary": summary or {}}).encode(), "results")


def success(number: int, image_set: str = SET, *, primary: Any = True) -> dict[str, Any]:
    return {"inputFile": key(number), "importResponse": {"imageSetId": image_set, "isPrimary": primary}}


def warning(number: int) -> dict[str, Any]:
    said = [{"warning_reason_code": 45062, "type": "ElementsDiscarded", "message": "discarded"}]
    return {"inputFile": key(number), "importResponse": {"imageSetId": SET, "imageSetVersion": 2, "isPrimary": True, "warnings": said}}


def failure(number: int) -> dict[str, Any]:
    return {"inputFile": key(number), "exception": {"exceptionType": "ValidationException", "message": "no transfer syntax"}}


def counts(world: World) -> dict[str, int]:
    return {name.removesuffix("Count"): count for name, count in world.row().items() if name.endswith("Count") and name != "instanceCount"}


def ended(world: World) -> dict[str, Any]:
    assert check(world.workflow, BATCH_ID, 1)["next"] == "END"
    result = world.json(world.row()["resultKey"])
    assert result["counts"]["failed"] + result["counts"]["warned"] + result["counts"]["imported"] + result["counts"]["missing"] == 4
    assert world.held() == []
    return dict(result)


class TestClasses:
    def test_each_class(self, world: World) -> None:
        started(world)
        write(world, success=[success(1), success(2)], warning=[warning(2)], failure=[failure(3)])
        result = ended(world)
        assert counts(world) == {"imported": 1, "warning": 1, "failed": 1, "missing": 1, "unexpected": 0, "nonPrimary": 0}
        assert result["failed"] == [{"sopInstanceUID": "1.2.1.3", "key": key(3), "message": "ValidationException: no transfer syntax"}]
        assert result["warned"] == [{"sopInstanceUID": "1.2.1.2", "key": key(2), "messages": ["ElementsDiscarded: discarded"]}]
        assert result["missing"] == [{"sopInstanceUID": "1.2.1.4", "key": key(4)}]
        assert world.row()["state"] == "DONE"
        assert world.keys(KEYS.quarantine) == [f"hospital/quarantine/{BATCH_ID}/1.2/1.2.1/1.2.1.{n}.dcm" for n in (3, 4)]
        job = world.job_row(JOB_ID)
        assert (job["jobStatus"], job["failedCount"], job["missingCount"]) == ("COMPLETED", 1, 1)

    def test_failed_before_warned_before_imported(self, world: World) -> None:
        started(world)
        write(world, success=[success(n) for n in (1, 2, 3, 4)], warning=[warning(1), warning(2)], failure=[failure(1)])
        ended(world)
        assert counts(world) == {"imported": 2, "warning": 1, "failed": 1, "missing": 0, "unexpected": 0, "nonPrimary": 0}

    def test_what_the_manifest_does_not_list_is_unexpected_and_harmless(self, world: World) -> None:
        started(world)
        write(world, success=[success(n) for n in (1, 2, 3, 4, 9)], failure=[failure(8)])
        assert ended(world)["unexpected"] == [{"key": key(8)}, {"key": key(9)}]
        assert (counts(world)["unexpected"], world.row()["state"], world.keys(KEYS.quarantine)) == (2, "DONE", [])

    def test_not_primary_is_counted_beside_its_class(self, world: World) -> None:
        started(world)
        sets = [{"imageSetId": "b" * 32, "imageSetVersion": 3, "isPrimary": "False", "numberOfMatchedSOPInstances": 1}]
        lines = [success(1), success(2, primary="false"), success(3, "b" * 32, primary=None), success(4)]
        write(world, summary={"imageSetsSummary": sets}, success=lines)
        result = ended(world)
        assert result["nonPrimary"] == [
            {"sopInstanceUID": "1.2.1.2", "imageSetId": SET},
            {"sopInstanceUID": "1.2.1.3", "imageSetId": "b" * 32},
        ]
        assert {"imageSetId": "b" * 32, "imageSetVersion": 3, "isPrimary": False, "instances": 1} in result["imageSets"]
        assert counts(world) == {"imported": 4, "warning": 0, "failed": 0, "missing": 0, "unexpected": 0, "nonPrimary": 2}


class TestForms:
    def test_words_of_python_are_read(self) -> None:
        assert loads('{"a":True,"b":[False,None],"c":"True \\"None"}') == {"a": True, "b": [False, None], "c": 'True "None'}
        assert loads("{") is None
        assert loads(b"\xff") is None

    @pytest.mark.parametrize(("value", "is_true"), [(True, True), ("False", False), ("true", True), (None, None), (1, None), ("", None)])
    def test_booleans_are_compared_loosely(self, value: Any, is_true: bool | None) -> None:
        assert truth(value) is is_true

    def test_lines_with_words_of_python(self, world: World) -> None:
        started(world)
        line = f'{{"inputFile":"{key(1)}","importResponse":{{"imageSetId":"{SET}","isPrimary":True}}}}'
        write(world, success=[line, "", success(2), success(3), success(4)])
        ended(world)
        assert counts(world)["imported"] == 4

    def test_a_line_that_cannot_be_read_leaves_its_instance_missing(self, world: World) -> None:
        started(world)
        write(world, success=[success(1), success(2), success(3), '{"inputFile":', "7", '{"inputFile":7}'])
        ended(world)
        assert (counts(world)["imported"], counts(world)["missing"]) == (3, 1)
        assert world.row()["message"] == "3 lines of the output cannot be read"
        assert len(world.keys(KEYS.quarantine)) == 1

    def test_a_line_with_the_bucket_before_the_key(self, world: World) -> None:
        started(world)
        write(world, success=[success(n) | {"inputFile": f"s3://dicom/{key(n)}"} for n in (1, 2, 3, 4)])
        ended(world)
        assert counts(world)["imported"] == 4

    def test_the_folder_may_be_what_the_job_says(self, world: World) -> None:
        started(world)
        world.imaging.jobs[JOB_ID]["outputS3Uri"] = f"s3://results/{BASE}{FOLDER}"
        write(world, success=[success(n) for n in (1, 2, 3, 4)])
        ended(world)
        assert counts(world)["imported"] == 4

    def test_there_may_be_no_folder(self, world: World) -> None:
        started(world)
        write(world, BASE, success=[success(n) for n in (1, 2, 3, 4)])
        ended(world)
        assert counts(world)["imported"] == 4

    def test_another_place_is_not_read(self, world: World) -> None:
        started(world)
        world.imaging.jobs[JOB_ID]["outputS3Uri"] = "s3://results/elsewhere/"
        write(world, "elsewhere/", success=[success(n) for n in (1, 2, 3, 4)])
        world.clock.sleep(3600)
        ended(world)
        assert counts(world)["missing"] == 4

    def test_files_may_be_absent(self, world: World) -> None:
        started(world)
        write(world)
        ended(world)
        assert counts(world)["missing"] == 4
        assert len(world.keys(KEYS.quarantine)) == 4


class TestEnds:
    def test_without_an_output_manifest_it_is_waited_for_a_while(self, world: World) -> None:
        started(world)
        assert check(world.workflow, BATCH_ID, 1)["next"] == "WAIT"
        assert world.row()["state"] == "IMPORTING"
        world.clock.sleep(3600)
        ended(world)
        assert (world.row()["state"], world.row()["message"]) == ("DONE", "the job left no output manifest")

    def test_a_job_that_failed_is_failed_with_its_words_and_its_instances_kept(self, world: World) -> None:
        started(world)
        world.imaging.statuses[f"{BATCH_ID}-1"] = "FAILED"
        ended(world)
        assert (world.row()["state"], world.row()["message"]) == ("FAILED", "the job failed as a whole")
        assert world.job_row(JOB_ID)["jobStatus"] == "FAILED"
        assert len(world.keys(KEYS.quarantine)) == 4

    def test_the_end_is_written_once(self, world: World) -> None:
        started(world)
        write(world, success=[success(n) for n in (1, 2, 3, 4)])
        ended(world)
        row, job = world.row(), world.job_row(JOB_ID)
        world.clock.sleep(100)
        assert check(world.workflow, BATCH_ID, 1)["next"] == "END"
        assert (world.row(), world.job_row(JOB_ID)) == (row, job)

    def test_a_status_never_goes_back(self, world: World) -> None:
        started(world)
        write(world, success=[success(n) for n in (1, 2, 3, 4)])
        ended(world)
        from check_status.check import _update_job

        for status in ("SUBMITTED", "IN_PROGRESS", "FAILED"):
            late = Job(job_id=JOB_ID, status=status, submitted_at=None, ended_at=None, message="", output_uri="")
            _update_job(world.workflow, late, {})
        assert world.job_row(JOB_ID)["jobStatus"] == "COMPLETED"

    def test_the_waits_grow_with_the_age_of_the_job(self, world: World) -> None:
        started(world)
        waits = []
        world.imaging.jobs[JOB_ID]["ends_s"] = world.clock.now() + 10_000
        for _ in range(40):
            step = check(world.workflow, BATCH_ID, 1)
            waits.append(step["seconds"])
            world.clock.sleep(step["seconds"])
        assert waits == sorted(waits)
        assert (waits[0], waits[-1]) == (10, 60)

    def test_another_attempt_is_not_touched(self, world: World) -> None:
        started(world)
        assert check(world.workflow, BATCH_ID, 2) == {"next": "END", "seconds": 0}
        with pytest.raises(PermanentError):
            check(world.workflow, "f" * 16 + BATCH_ID[16:], 1)

    def test_what_the_service_says_that_nobody_knows_is_tried_again(self, world: World) -> None:
        started(world)
        world.imaging.statuses[f"{BATCH_ID}-1"] = "PAUSED"
        with pytest.raises(RetryableError):
            check(world.workflow, BATCH_ID, 1)


class TestQuarantine:
    def test_what_is_there_is_not_copied_again_and_what_is_gone_does_not_hold_up(self, world: World) -> None:
        started(world)
        write(world, success=[success(4)], failure=[failure(1), failure(2), failure(3)])
        world.put(f"hospital/quarantine/{BATCH_ID}/1.2/1.2.1/1.2.1.1.dcm", b"kept")
        world.s3.delete_object(Bucket="dicom", Key=key(2))
        world.faults.begin(0, "")
        ended(world)
        assert world.faults.end().count("CopyObject") == 1
        kept = world.s3.get_object(Bucket="dicom", Key=f"hospital/quarantine/{BATCH_ID}/1.2/1.2.1/1.2.1.1.dcm")["Body"].read()
        assert kept == b"kept"
        assert [name.rpartition("/")[2] for name in world.keys(KEYS.quarantine)] == ["1.2.1.1.dcm", "1.2.1.3.dcm"]
        assert world.row()["failedCount"] == 3

    def test_more_than_one_copy_may_take_goes_in_parts(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        from boto3.s3.transfer import TransferConfig

        from importflow import objects

        monkeypatch.setattr(objects, "LARGEST_COPY_BYTES", 6 << 20)
        monkeypatch.setattr(objects, "_IN_PARTS", TransferConfig(multipart_threshold=6 << 20, multipart_chunksize=5 << 20))
        body = bytes(range(256)) * (7 << 12)
        world.put("hospital/large", body)
        world.faults.begin(0, "")
        assert world.workflow.dicom.copy("hospital/large", "hospital/copy", len(body))
        assert world.faults.end().count("UploadPartCopy") == 2
        assert world.s3.get_object(Bucket="dicom", Key="hospital/copy")["Body"].read() == body
