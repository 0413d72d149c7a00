"""The job of an attempt is started once, and both rows name it."""

import pytest

from importflow.errors import ConflictError, PermanentError, RetryableError
from importflow.rows import step
from start_import_job.start import start_job
from tests.lambdas.services import DATASTORE_ID
from tests.lambdas.world import BATCH_ID, KEYS, World
from trigger_import.claim import take_turn
from trigger_import.failure import record


@pytest.fixture
def ready(world: World) -> World:
    """A batch that has its slot."""
    world.receive()
    assert world.trigger(KEYS.manifest(BATCH_ID)) == []
    assert take_turn(world.workflow, BATCH_ID, 1)["next"] == "START"
    return world


def test_what_is_asked_of_the_service(ready: World) -> None:
    start_job(ready.workflow, BATCH_ID, 1)
    [job] = ready.imaging.jobs.values()
    assert {name: job[name] for name in ("jobName", "clientToken", "inputS3Uri", "outputS3Uri", "datastoreId")} == {
        "jobName": f"{BATCH_ID}-1",
        "clientToken": f"{BATCH_ID}-1",
        "inputS3Uri": f"s3://dicom/hospital/instances/{BATCH_ID}/",
        "outputS3Uri": f"s3://results/imports/output/{BATCH_ID}/1/",
        "datastoreId": DATASTORE_ID,
    }


def test_both_rows_and_the_marker(ready: World) -> None:
    assert start_job(ready.workflow, BATCH_ID, 1) == {"next": "CHECK", "seconds": 10}
    row = ready.row()
    job = ready.job_row(row["jobId"])
    assert (row["state"], job["jobStatus"], job["batchId"], job["attempt"]) == ("IMPORTING", "SUBMITTED", BATCH_ID, 1)
    assert (job["studyInstanceUID"], job["seriesInstanceUID"], job["studyDate"]) == ("1.2", "1.2.1", "20260101")
    assert "sopInstanceUID" not in job
    assert ready.keys(KEYS.open) == []


def test_called_twice_it_is_the_same_job(ready: World) -> None:
    answers = [start_job(ready.workflow, BATCH_ID, 1) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert ready.imaging.calls == ["StartDICOMImportJob"]


@pytest.mark.parametrize("others", [0, 3, 120])
def test_an_answer_that_was_lost_long_ago_is_found_by_name(ready: World, others: int) -> None:
    """The service has forgotten the token by then: a second start would be a second job."""
    ready.faults.begin(3, "lost")
    with pytest.raises(RetryableError):
        start_job(ready.workflow, BATCH_ID, 1)
    assert ready.faults.end()[-1] == "StartDICOMImportJob"
    for number in range(others):
        ready.clock.sleep(1)
        ready.imaging._start(
            {"jobName": f"other-{number}", "clientToken": f"other-{number}", "datastoreId": DATASTORE_ID, "dataAccessRoleArn": "r" * 20}
        )
    ready.clock.sleep(ready.imaging.token_memory_s * 2)
    start_job(ready.workflow, BATCH_ID, 1)
    assert ready.imaging.calls.count("StartDICOMImportJob") == 1
    assert ready.imaging.calls.count("ListDICOMImportJobs") == others // 50 + 1
    assert ready.imaging.jobs[ready.row()["jobId"]]["jobName"] == f"{BATCH_ID}-1"


def test_a_list_in_no_order_is_read_to_its_end(ready: World) -> None:
    ready.faults.begin(3, "lost")
    with pytest.raises(RetryableError):
        start_job(ready.workflow, BATCH_ID, 1)
    ready.faults.end()
    ready.clock.now_s -= 10_000
    for number in range(150):
        ready.clock.sleep(number * 7919 % 13)
        start_another(ready, number)
    ready.clock.now_s += 20_000
    # Oldest first, the one that is looked for last.
    ready.imaging.order = lambda job: (job["jobName"] == f"{BATCH_ID}-1", job["submitted_s"])
    start_job(ready.workflow, BATCH_ID, 1)
    assert (ready.imaging.calls.count("StartDICOMImportJob"), ready.imaging.calls.count("ListDICOMImportJobs")) == (1, 4)


def test_a_list_from_the_newest_on_is_read_until_it_is_older(ready: World) -> None:
    ready.faults.begin(3, "broken")
    with pytest.raises(RetryableError):
        start_job(ready.workflow, BATCH_ID, 1)
    ready.faults.end()
    now = ready.clock.now()
    ready.clock.now_s = now - 100_000
    for number in range(150):
        ready.clock.sleep(1)
        start_another(ready, number)
    ready.clock.now_s = now
    start_job(ready.workflow, BATCH_ID, 1)
    assert ready.imaging.calls == ["ListDICOMImportJobs", "StartDICOMImportJob"]


def test_a_conflict_looks_the_job_up(ready: World) -> None:
    ready.faults.begin(3, "conflict")
    with pytest.raises(ConflictError):
        start_job(ready.workflow, BATCH_ID, 1)
    assert "ListDICOMImportJobs" in ready.faults.end()
    # Nobody knows whether the next is the first.
    assert "startRequestedAt" in ready.row()
    assert "slotAt" not in ready.row()


def test_a_refusal_for_good_ends_on_the_row(world: World) -> None:
    world.receive()
    assert world.trigger(KEYS.manifest(BATCH_ID)) == []
    take_turn(world.workflow, BATCH_ID, 1)
    world.faults.begin(3, "denied", 3)
    world.run_executions()
    assert world.row()["state"] == "FAILED"
    assert "AccessDeniedException (403)" in world.row()["message"]
    assert (world.held(), len(world.imaging.jobs)) == ([], 0)


def test_an_error_of_the_function_ends_on_the_row_without_its_words(ready: World) -> None:
    record(ready.workflow, BATCH_ID, 1, {"Error": "KeyError", "Cause": json_cause("'DOE^JOHN'")})
    assert (ready.row()["state"], ready.row()["message"], ready.held()) == ("FAILED", "unexpected KeyError", [])


@pytest.mark.parametrize("name", ["RetryableError", "ThrottledError", "States.Timeout", "Lambda.Unknown", "Sandbox.Timedout"])
def test_what_passes_does_not_fail_the_row(ready: World, name: str) -> None:
    record(ready.workflow, BATCH_ID, 1, {"Error": name, "Cause": "not JSON"})
    assert ready.row()["state"] == "STARTING"
    assert "will be resumed" in ready.row()["message"]
    start_job(ready.workflow, BATCH_ID, 1)
    assert "message" not in ready.row()


def test_an_attempt_that_is_over_is_left_alone(ready: World) -> None:
    assert start_job(ready.workflow, BATCH_ID, 2) == {"next": "END", "seconds": 0}
    record(ready.workflow, BATCH_ID, 2, {"Error": "PermanentError", "Cause": ""})
    assert ready.row()["state"] == "STARTING"
    with pytest.raises(PermanentError):
        start_job(ready.workflow, "f" * 16 + BATCH_ID[16:], 1)


def test_a_step_of_another_attempt_or_from_another_state_does_nothing(ready: World) -> None:
    row = ready.row()
    assert step(ready.workflow, row | {"attempt": 2}, ("STARTING",), {"message": "late"}) is None
    assert step(ready.workflow, row, ("RECEIVED", "WAITING"), {"message": "late"}) is None
    assert ready.row() == row
    assert step(ready.workflow, row, ("STARTING",), {"message": "in time"}) is not None


def test_another_attempt_starts_another_job_and_forgets_the_first(world: World) -> None:
    world.receive()
    world.imaging.statuses[f"{BATCH_ID}-1"] = "FAILED"
    world.import_batch(BATCH_ID)
    world.workflow.batches.update(
        BATCH_ID, "SET #state = :state, #attempt = :attempt", "#state = :was", {"state": "RECEIVED", "attempt": 2, "was": "FAILED"}
    )
    world.states.executions[f"{BATCH_ID}-2"] = {"input": f'{{"batchId": "{BATCH_ID}", "attempt": 2}}', "status": "RUNNING"}
    assert take_turn(world.workflow, BATCH_ID, 2)["next"] == "START"
    assert not {"jobId", "startRequestedAt", "startedAt", "endedAt", "message", "resultKey", "importedCount"} & world.row().keys()
    # The first manifest's event comes again in the middle of it.
    assert world.trigger(KEYS.manifest(BATCH_ID)) == []
    world.run_executions()
    row = world.row()
    assert (row["state"], row["attempt"], row["importedCount"], row.get("message")) == ("DONE", 2, 2, None)
    assert sorted(job["jobName"] for job in world.imaging.jobs.values()) == [f"{BATCH_ID}-1", f"{BATCH_ID}-2"]
    assert row["executionArn"].endswith(f"{BATCH_ID}-2")
    assert world.keys("imports/results/", "results") == [f"imports/results/{BATCH_ID}/{n}.json" for n in (1, 2)]


def json_cause(words: str) -> str:
    return f'{{"errorMessage": "{words}", "errorType": "KeyError"}}'


def start_another(world: World, number: int) -> None:
    world.imaging._start({"jobName": f"{number}", "clientToken": f"{number}", "datastoreId": DATASTORE_ID, "dataAccessRoleArn": "r" * 20})
