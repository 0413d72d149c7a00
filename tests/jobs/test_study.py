"""Is this study complete and imported?"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fastscp import jobs
from fastscp.jobs.study import judge
from fastscp.settings import StoreTarget
from tests.jobs.conftest import KEYS, STUDY, Run, Workflow, at, batch_id

STORE = StoreTarget("s3", "p", "images")


def done(workflow: Workflow, number: int, **changes: Any) -> None:
    workflow.batch(number, **changes)
    workflow.job(number)


def nothing(workflow: Workflow) -> None:
    workflow.batch(1, studyInstanceUID="1.2.840.10")
    workflow.marker(2, "1.2.840.10")


def imported(workflow: Workflow) -> None:
    done(workflow, 1)
    done(workflow, 2, warningCount=2, importedCount=1)
    done(workflow, 3, studyInstanceUID="1.2.840.10", failedCount=1)


def non_primary(workflow: Workflow) -> None:
    done(workflow, 1, nonPrimaryCount=3)


def importing(workflow: Workflow) -> None:
    done(workflow, 1)
    workflow.batch(2, "IMPORTING")
    workflow.batch(3, "RECEIVED", instanceCount=1)


def being_received(workflow: Workflow) -> None:
    done(workflow, 1)
    workflow.marker(2)
    workflow.marker(3, "1.2.840.10")


def waiting(workflow: Workflow) -> None:
    done(workflow, 1)
    # Its marker stays until the import has been started.
    workflow.batch(2, "WAITING")
    workflow.marker(2)


def failed(workflow: Workflow) -> None:
    done(workflow, 1, failedCount=1, importedCount=2)
    done(workflow, 2, missingCount=2, importedCount=1)
    workflow.batch(3, "FAILED")
    workflow.batch(4, "IMPORTING")
    workflow.marker(5)


def refused(workflow: Workflow) -> None:
    done(workflow, 1)
    # All that is known of it is its marker.
    workflow.batches.put_item(Item={"batchId": batch_id(2), "state": "FAILED", "attempt": 1, "updatedAt": at(0), "message": "no manifest"})
    workflow.marker(2)


def late_marker(workflow: Workflow) -> None:
    done(workflow, 1)
    # A renewal landed after the marker had been deleted.
    workflow.marker(1)


CASES: list[tuple[Callable[[Workflow], None], int, str]] = [
    (nothing, 5, "UNKNOWN: study 1.2.840.1: nothing of this study has been received"),
    (imported, 0, "IMPORTED: study 1.2.840.1: 6 instances in 2 batches; 2 with warnings"),
    (late_marker, 0, "IMPORTED: study 1.2.840.1: 3 instances in 1 batch"),
    (refused, 4, "FAILED: study 1.2.840.1: 1 batch not imported in full"),
    (non_primary, 0, "IMPORTED: study 1.2.840.1: 3 instances in 1 batch; 3 not primary, which DICOMweb does not show"),
    (importing, 3, "PENDING: study 1.2.840.1: 2 batches with 4 instances to be imported"),
    (being_received, 3, "PENDING: study 1.2.840.1: 1 batch not closed or not taken up yet"),
    (waiting, 3, "PENDING: study 1.2.840.1: 1 batch with 3 instances to be imported"),
    (
        failed,
        4,
        "FAILED: study 1.2.840.1: 3 batches not imported in full; 1 instance failed; 2 instances missing; "
        "1 batch not closed or not taken up yet; 1 batch with 3 instances to be imported",
    ),
]


@pytest.mark.parametrize(("fill", "code", "verdict"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_verdict_is_the_last_line_and_the_exit_code(
    workflow: Workflow, run: Run, fill: Callable[[Workflow], None], code: int, verdict: str
) -> None:
    fill(workflow)
    found, out, err = run("--study", STUDY, "--store", "s3://images/p")
    assert (found, err) == (code, "")
    assert out.splitlines()[-1] == verdict
    found, out, err = run("--study", STUDY, "--store", "s3://images/p", "--json")
    *batches, last = map(json.loads, out.splitlines())
    assert (found, err) == (code, "")
    assert f"{last['verdict']}: study {last['studyInstanceUID']}: {last['reason']}" == verdict
    assert (last["type"], last["batchCount"]) == ("study", len(batches))
    assert {batch["studyInstanceUID"] for batch in batches} <= {STUDY, None}
    assert last["instanceCount"] == sum(batch["instanceCount"] or 0 for batch in batches)


def test_json_of_the_verdict(workflow: Workflow, run: Run) -> None:
    failed(workflow)
    last = json.loads(run("--study", STUDY, "--json")[1].splitlines()[-1])
    assert last == {
        "type": "study",
        "studyInstanceUID": STUDY,
        "verdict": "FAILED",
        "reason": last["reason"],
        "batchCount": 4,
        "openBatchIds": [batch_id(5)],
        "sentAgainBatchIds": [],
        "instanceCount": 12,
        "importedCount": 3,
        "warningCount": 0,
        "failedCount": 1,
        "missingCount": 2,
        "unexpectedCount": 0,
        "nonPrimaryCount": 0,
    }


def test_without_a_store_the_last_job_tells_it(workflow: Workflow, run: Run) -> None:
    being_received(workflow)
    assert run("--study", STUDY)[0] == 3
    code, out, err = run("--study", "1.2.3")
    assert (code, out) == (2, "")
    assert err == "fastscp: --store: not given, and the study has no job to tell it: s3://bucket/prefix of the receiver\n"
    code, _, err = run("--study", STUDY, "--store", "./received")
    assert (code, err) == (2, "fastscp: --store: './received' is not s3://bucket/prefix: imports start from S3 only\n")
    code, _, err = run("--study", STUDY, "--store", "s3://nowhere/p")
    assert (code, err) == (2, "fastscp: --store: there is no bucket 'nowhere'\n")


def test_what_no_receiver_wrote_under_open_says_nothing(workflow: Workflow, run: Run) -> None:
    done(workflow, 1)
    for key, data in {
        KEYS.marker(batch_id(2)): b"{}",
        KEYS.open + "x.json": b"",
        KEYS.open: b"",
        KEYS.marker(batch_id(3)): b"\xff",
    }.items():
        workflow.s3.put_object(Bucket="images", Key=key, Body=data)
    assert run("--study", STUDY)[0] == 0


def test_many_batches_and_many_open_ones(workflow: Workflow, aws: jobs.Aws, tables: jobs.Tables) -> None:
    for number in range(130):
        workflow.batch(number)
        workflow.marker(number)
    for number in range(200, 230):
        workflow.marker(number, STUDY if number % 2 else "1.2.3")
    answer = jobs.ask_study(aws, tables, STORE, STUDY)
    assert answer.verdict == "PENDING"
    assert [batch.batch_id for batch in answer.batches] == [batch_id(number) for number in range(130)]
    assert answer.open_batch_ids == tuple(batch_id(number) for number in range(201, 230, 2))


def test_a_row_that_the_index_does_not_show_yet_counts(
    workflow: Workflow, aws: jobs.Aws, tables: jobs.Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(workflow, 1)
    workflow.marker(2)
    of_study = tables.of_study

    def behind(study_instance_uid: str) -> list[jobs.Batch]:
        found = of_study(study_instance_uid)
        # Written after the markers were read, and not in the index.
        workflow.batch(2, "RECEIVED")
        return found

    monkeypatch.setattr(tables, "of_study", behind)
    answer = jobs.ask_study(aws, tables, STORE, STUDY)
    assert answer.verdict == "PENDING"
    assert [batch.state for batch in answer.batches] == ["DONE", "RECEIVED"]
    assert answer.open_batch_ids == ()


def test_only_done_with_everything_imported_is_imported(tables: jobs.Tables, workflow: Workflow) -> None:
    for number, state in enumerate(jobs.STATES):
        workflow.batch(number, state)
    verdicts = {batch.state: judge(STUDY, [batch]).verdict for batch in tables.of_study(STUDY)}
    assert verdicts == {
        "RECEIVED": "PENDING",
        "WAITING": "PENDING",
        "STARTING": "PENDING",
        "IMPORTING": "PENDING",
        "DONE": "IMPORTED",
        "FAILED": "FAILED",
    }


class TestSentAgain:
    """Instances 1 to 3 are in batch 100, of which 2 failed and 3 is missing; later ones bring them again, or do not."""

    @pytest.fixture
    def first(self, workflow: Workflow) -> None:
        done(workflow, 100, failedCount=1, missingCount=1, importedCount=1)
        workflow.manifest(100, STUDY, [1, 2, 3])
        self.result(workflow, 100, failed=[2], missing=[3])

    def result(self, workflow: Workflow, number: int, failed: list[int], missing: list[int]) -> None:
        lists = {
            name: [{"sopInstanceUID": f"{STUDY}.1.{one}", "key": "k"} for one in found]
            for name, found in (("failed", failed), ("missing", missing))
        }
        workflow.result(number, **lists)

    def later(self, workflow: Workflow, number: int, instances: list[int], failed: list[int] | None = None, **changes: Any) -> None:
        done(workflow, number, failedCount=len(failed or []), **changes)
        workflow.manifest(number, STUDY, instances)
        self.result(workflow, number, failed or [], [])

    def code(self, run: Run) -> int:
        return run("--study", STUDY)[0]

    def test_everything_came_again(self, workflow: Workflow, first: None, run: Run) -> None:
        assert self.code(run) == 4
        self.later(workflow, 200, [2])
        assert self.code(run) == 4
        self.later(workflow, 300, [1, 3])
        code, out, _ = run("--study", STUDY)
        assert code == 0
        words = "9 instances in 3 batches; 1 batch not imported in full, of which everything came again"
        assert out.splitlines()[-1] == f"IMPORTED: study {STUDY}: {words}"
        last = json.loads(run("--study", STUDY, "--json")[1].splitlines()[-1])
        assert last["sentAgainBatchIds"] == [batch_id(100)]

    def test_it_failed_again(self, workflow: Workflow, first: None, run: Run) -> None:
        self.later(workflow, 200, [2, 3], failed=[3])
        assert self.code(run) == 4
        self.later(workflow, 300, [3])
        assert self.code(run) == 0

    def test_an_earlier_import_is_not_this_one(self, workflow: Workflow, first: None, run: Run) -> None:
        self.later(workflow, 50, [1, 2, 3])
        assert self.code(run) == 4
        self.later(workflow, 150, [1, 2, 3], closedAt=at(120))
        assert self.code(run) == 4

    @pytest.mark.parametrize("state", ["RECEIVED", "IMPORTING", "FAILED"])
    def test_what_came_again_and_is_not_imported(self, workflow: Workflow, first: None, run: Run, state: str) -> None:
        self.later(workflow, 200, [2, 3], state=state)
        assert self.code(run) == 4

    def test_a_batch_that_failed_altogether(self, workflow: Workflow, run: Run) -> None:
        workflow.batch(100, "FAILED")
        workflow.job(100, "FAILED")
        workflow.manifest(100, STUDY, [1, 2])
        self.later(workflow, 200, [1])
        assert self.code(run) == 4
        self.later(workflow, 300, [2])
        assert self.code(run) == 0

    @pytest.mark.parametrize(
        "gone", ["images/p/batches/{later}.json", "results/r/results/{first}/1.json", "results/r/results/{later}/1.json"]
    )
    def test_what_cannot_be_shown_is_not_said(self, workflow: Workflow, first: None, run: Run, gone: str) -> None:
        self.later(workflow, 200, [2, 3, 4], failed=[4])
        self.later(workflow, 300, [4])
        assert self.code(run) == 0
        bucket, _, key = gone.format(first=batch_id(100), later=batch_id(200)).partition("/")
        workflow.s3.delete_object(Bucket=bucket, Key=key)
        assert self.code(run) == 4

    def test_a_manifest_that_is_none(self, workflow: Workflow, first: None, run: Run) -> None:
        self.later(workflow, 200, [2, 3])
        workflow.s3.put_object(Bucket="images", Key=KEYS.manifest(batch_id(200)), Body=b"{}")
        code, out, err = run("--study", STUDY)
        assert (code, out) == (1, "")
        assert err.startswith(f"fastscp: s3://images/p/batches/{batch_id(200)}.json is not the manifest of an import: ")


def test_options_that_do_not_go_together(workflow: Workflow, run: Run) -> None:
    for option in ("--follow", "--troubled", "--limit=1", "--status=done"):
        code, out, err = run("--study", STUDY, option)
        assert (code, out, err) == (2, "", "fastscp: --study goes with --json only (see fastscp jobs --help)\n")
