"""The model behind the import capacity: tables as in DynamoDB, quotas as the service's, turns as the functions give them.

Enters: small backlogs. Leaves: what the simulation says of them, against what can be counted by hand. Never: a time of this machine.
"""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from benchmarks import import_capacity
from benchmarks.capacity import machine, memory, workflow
from benchmarks.capacity.durations import MODELS, fixed, linear, ragged
from benchmarks.capacity.hospital import HOURS, MODALITIES, day
from benchmarks.capacity.instance_mode import imported_s
from benchmarks.capacity.service import CONCURRENT_JOBS, HealthImaging, Throttle
from benchmarks.capacity.workflow import CALL_S, EVENT_S, ClosedBatch, import_all
from fastscp.batches import Limits
from importflow.errors import PermanentError, RetryableError, ThrottledError
from importflow.table import Table


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    for variable, value in {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}.items():
        monkeypatch.setenv(variable, value)
    with mock_aws():
        client = boto3.client("dynamodb", "eu-west-1")
        client.create_table(
            TableName="batches",
            KeySchema=[{"AttributeName": "batchId", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("batchId", "closedAt", "studyInstanceUID")],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "byStudy",
                    "KeySchema": [
                        {"AttributeName": "studyInstanceUID", "KeyType": "HASH"},
                        {"AttributeName": "closedAt", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        yield Table(client, "batches", "batchId")


def _calls(source: random.Random, turn: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls of the functions' own kinds, with values that make their conditions hold and fail."""
    one = {f"b{source.randrange(4)}-1"}
    name, moment, number = next(iter(one)), f"2027-01-15T08:00:0{source.randrange(4)}.000Z", 3 * turn + source.randrange(12)
    row = {
        "batchId": f"b{source.randrange(4)}",
        "state": "RECEIVED",
        "attempt": 1,
        "studyInstanceUID": f"1.{source.randrange(2)}",
        "closedAt": moment,
    }
    yield "put_new", (row,)
    yield "get", (f"b{source.randrange(9)}",)
    values = {
        "owner": name,
        "expiresAt": moment,
        "now": f"2027-01-15T08:00:0{source.randrange(4)}.000Z",
        "ended": f"b{source.randrange(4)}-1",
    }
    lock = "attribute_not_exists(#batchId) OR #owner = :owner OR #expiresAt < :now"
    yield "update", ("#study/1", "SET #owner = :owner, #expiresAt = :expiresAt", lock, values)
    yield "update", ("#study/1", "SET #owner = :owner, #expiresAt = :expiresAt", "#owner = :ended", values)
    yield "delete", ("#study/1", "#owner = :owner", {"owner": name})
    yield "update", ("#jobs", "ADD #names :name", "attribute_not_exists(#names) OR size(#names) < :most", {"name": one, "most": 2})
    yield "update", ("#jobs", "DELETE #names :name", "contains(#names, :one)", {"name": one, "one": name})
    yield "update", ("#starts", "SET #next = #next + :interval", "#next >= :now", {"interval": 2, "now": number})
    yield "update", ("#starts", "SET #next = :next", "attribute_not_exists(#next) OR #next < :now", {"next": number + 2, "now": number})
    states = source.sample(["RECEIVED", "WAITING", "STARTING"], 2)
    changes = {"state": source.choice(["WAITING", "STARTING"]), "slotAt": moment, "updatedAt": moment, "sameAttempt": 1, "seen": moment}
    yield (
        "update",
        (
            row["batchId"],
            "SET #state = :state, #slotAt = :slotAt, #updatedAt = :updatedAt REMOVE #message, #jobId",
            "#attempt = :sameAttempt AND #state IN (:from0, :from1) AND (attribute_not_exists(#slotAt) OR #slotAt = :seen)",
            changes | {"from0": states[0], "from1": states[1]},
        ),
    )
    asked = {"study": row["studyInstanceUID"], "closed": moment}
    yield "query", ("byStudy", "#studyInstanceUID = :study AND #closedAt <= :closed", asked, ("batchId", "state", "closedAt"))


def test_the_table_in_memory_answers_as_dynamodb(dynamodb: Table) -> None:
    ours = memory.Table("batchId", "studyInstanceUID")
    source = random.Random(1)
    seen: dict[tuple[str, bool], int] = {}
    for turn in range(30):
        calls = list(_calls(source, turn))
        source.shuffle(calls)
        for method, arguments in calls:
            answers = [getattr(table, method)(*arguments) for table in (dynamodb, ours)]
            if method == "query":
                answers = [sorted(answer, key=lambda item: item["batchId"]) for answer in answers]
            assert answers[0] == answers[1], (method, arguments)
            kind = (arguments[2] if method == "update" else method, bool(answers[0]))
            seen[kind] = seen.get(kind, 0) + 1
    # Every condition has held, and has not.
    kinds = {kind for kind, _ in seen}
    assert {(kind, held) for kind in kinds for held in (True, False)} == set(seen)


@pytest.mark.parametrize(
    ("expression", "condition"),
    [
        ("SET #a = if_not_exists(#a, :b)", "#a = :a"),
        ("SET #a = :a", "begins_with(#a, :a)"),
        ("SET #a = :a", "#a = :a )"),
        ("#a = :a", "#a = :a"),
        ("SET #a = :a", "NOT #a = :a"),
    ],
)
def test_an_expression_that_is_not_understood_is_an_error(expression: str, condition: str) -> None:
    table = memory.Table("batchId", "studyInstanceUID")
    table.put_new({"batchId": "x", "a": 1})
    with pytest.raises((ValueError, KeyError)):
        table.update("x", expression, condition, {"a": 1, "b": 2})


def test_the_throttle() -> None:
    throttle = Throttle(1.0, 2)
    assert [throttle.passes(0.0) for _ in range(3)] == [True, True, False]
    assert [throttle.passes(at) for at in (0.5, 1.0, 1.1, 2.0, 10.0, 10.0, 10.0)] == [False, True, False, True, True, True, False]


def test_the_service_refuses_what_its_quotas_do_not_permit() -> None:
    now = [0.0]
    sizes = {"many": (5_001, 1), "large": (1, 10_000_000_001)}
    imaging = HealthImaging(lambda: now[0], 0.0, lambda uri: sizes.get(uri, (1, 1)), lambda name, files: 1000.0)

    def start(name: str, uri: str = "s3://dicom/x/") -> str:
        request = {"clientToken": name, "inputS3Uri": uri, "outputS3Uri": ""}
        try:
            return str(imaging.start_dicom_import_job(**request)["jobId"])
        except ClientError as error:
            return str(error.response["ResponseMetadata"]["HTTPStatusCode"])

    first = start("0")
    assert start("0") == first
    assert start("1") == "429"
    for number in range(1, CONCURRENT_JOBS):
        now[0] += 1
        assert len(start(str(number))) == 32
    now[0] += 1
    assert start("one more") == "402"
    now[0] = 1001.0
    assert start("one more") != "402"
    for uri in sizes:
        now[0] += 1
        assert start(uri, uri) == "402"
    assert imaging.refusals == {"StartDICOMImportJob 429": 1, "StartDICOMImportJob 402": 3}
    assert imaging.most_at_once == CONCURRENT_JOBS


def backlog(count: int, study: int | None = None) -> list[ClosedBatch]:
    return [ClosedBatch(number if study is None else study, 0.0, 10, 1000) for number in range(count)]


def test_starts_are_a_second_apart_and_no_more_at_once_than_permitted() -> None:
    outcome = import_all(backlog(130), fixed(150.0), 1)
    starts = sorted(ended - 150.0 for ended in outcome.ended_s)
    assert min(after - before for before, after in itertools.pairwise(starts)) > 0.999
    # The first hundred without a gap; the others as places become free, and are seen to be.
    assert starts[99] == pytest.approx(starts[0] + 99, abs=0.01)
    assert starts[100] > starts[0] + 150.0
    assert (outcome.most_at_once, outcome.refusals) == (100, {})


def test_the_jobs_of_a_study_follow_one_another() -> None:
    outcome = import_all([*backlog(3, study=7), ClosedBatch(8, 5.0, 1, 1)], fixed(60.0), 1)
    *same, other = outcome.ended_s
    assert same == sorted(same)
    assert min(after - before for before, after in itertools.pairwise(same)) >= 60.0
    assert other < same[1]


def test_one_batch_takes_the_calls_and_the_job() -> None:
    outcome = import_all([ClosedBatch(1, 100.0, 10, 1000)], fixed(60.0), 1)
    # The event, the claim and the start; then the job.
    assert outcome.ended_s == [pytest.approx(100.0 + 1 / workflow.ACCEPTED_PER_S + EVENT_S + 2 * CALL_S + 60.0, abs=0.03)]


def test_the_same_seed_gives_the_same_result() -> None:
    first, second = (import_all(backlog(12), ragged(linear(30, 0.1), 1.0), 3) for _ in range(2))
    assert first == second


def test_an_instance_that_is_not_imported_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow._World, "_results", lambda self, key: b'{"jobSummary":{}}' if key.endswith("manifest.json") else b"")
    with pytest.raises(AssertionError, match="batch 0: DONE, 0 imported"):
        import_all(backlog(1), fixed(60.0), 1)


def test_a_service_that_refuses_more_than_it_should_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.capacity.service.CONCURRENT_JOBS", 3)
    outcome = import_all(backlog(8), fixed(60.0), 1)
    assert outcome.most_at_once == 3
    assert outcome.refusals["StartDICOMImportJob 402"] > 0


class TestMachine:
    def run(self, *errors: Exception) -> tuple[list[str], list[float]]:
        """Executes the real definition; the start fails in these ways first."""
        calls: list[str] = []
        left = list(errors)

        def claim(given: dict[str, Any]) -> Any:
            calls.append(given.get("action", "?"))
            return {"next": "START", "seconds": 3}

        def start(given: dict[str, Any]) -> Any:
            calls.append("start")
            if left:
                raise left.pop(0)
            return {"next": "CHECK", "seconds": 7}

        def check(given: dict[str, Any]) -> Any:
            calls.append("check")
            return {"next": "END" if "check" in calls[:-1] else "WAIT", "seconds": 11}

        functions = {"TriggerImportFunctionArn": claim, "StartImportJobFunctionArn": start, "CheckStatusFunctionArn": check}
        given = {"batchId": "b", "attempt": 1}
        waits = list(machine.execute(machine.load(), functions, given, 0.5, random.Random(1)))
        return calls, waits

    def test_without_trouble(self) -> None:
        assert self.run() == (["claim", "start", "check", "check"], [0.5, 3.0, 0.5, 7.0, 0.5, 11.0, 0.5])

    def test_throttling_takes_a_new_turn(self) -> None:
        assert self.run(ThrottledError())[0] == ["claim", "start", "claim", "start", "check", "check"]

    def test_what_passes_is_tried_again_as_often_as_the_definition_says(self) -> None:
        assert self.run(RetryableError(), RetryableError())[0] == ["claim", "start", "start", "start", "check", "check"]
        with pytest.raises(machine.FailedExecution):
            self.run(*[RetryableError()] * 9)

    def test_what_does_not_pass_is_recorded(self) -> None:
        with pytest.raises(machine.FailedExecution):
            self.run(PermanentError())

    def test_a_fault_of_the_functions_is_not_an_outcome(self) -> None:
        with pytest.raises(ZeroDivisionError):
            self.run(ZeroDivisionError())


def brute_force(ready: list[float], durations: list[float]) -> list[float]:
    """Instance mode, by looking at every moment at which something can change."""
    tokens, last, running, ended = 2.0, 0.0, [], []
    for at_s, length in zip(ready, durations, strict=True):
        now = max(at_s, last)
        while True:
            running = [one for one in running if one > now]
            if len(running) >= CONCURRENT_JOBS:
                now = min(running)
                continue
            available = min(2.0, tokens + (now - last))
            if available < 1 - 1e-9:
                now = last + 1 - tokens
                continue
            tokens, last = available - 1, now
            running.append(now + length)
            ended.append(now + length)
            break
    return ended


@pytest.mark.parametrize("seed", range(4))
def test_instance_mode_is_what_the_quotas_permit_at_best(seed: int) -> None:
    source = random.Random(seed)
    ready = sorted(source.uniform(0, 400) for _ in range(600))
    durations = {f"instance-{number}": source.uniform(1, 400) for number in range(600)}
    found = list(imported_s(ready, lambda name, files: durations[name]))
    assert found == pytest.approx(brute_force(ready, list(durations.values())))


def test_instance_mode_of_a_backlog() -> None:
    assert max(imported_s([0.0] * 1000, fixed(60.0))) == 998 + 60
    assert max(imported_s([0.0] * 1000, fixed(1000.0))) == pytest.approx(10 * 1000 + 98)


def test_a_day_is_what_it_says() -> None:
    assert sum(one.share for one in MODALITIES) == pytest.approx(1)
    assert len(HOURS) == 24
    instances, batches = day(60, 5)
    assert (instances, batches) == day(60, 5)
    assert instances == sorted(instances)
    limits = Limits()
    by_batch: dict[int, list[float]] = {}
    for at_s, batch in instances:
        by_batch.setdefault(batch, []).append(at_s)
    assert [len(by_batch[number]) for number in range(len(batches))] == [batch.instance_count for batch in batches]
    for number, batch in enumerate(batches):
        moments = by_batch[number]
        assert max((after - before for before, after in itertools.pairwise(moments)), default=0.0) < limits.quiet_s
        assert moments[-1] - moments[0] < limits.age_s
        assert batch.instance_count <= limits.instances
        assert batch.size_bytes <= limits.size_bytes
        # Closed by the quiet period or by age, at a tick; or when the next instance came before it was.
        assert moments[-1] <= batch.closed_s <= moments[-1] + limits.quiet_s + limits.tick_s
    # Some studies have pauses that make several batches of them.
    assert len({batch.study for batch in batches}) == 60 < len(batches)


def test_durations_are_the_same_for_the_same_name() -> None:
    for model in MODELS:
        assert model.duration("a", 300) == model.duration("a", 300) > 0
    drawn = sorted(ragged(fixed(60), 1.0)(str(number), 1) for number in range(1001))
    assert 50 < drawn[500] < 70
    assert 400 < drawn[990] < 900


def test_percentiles() -> None:
    values = [float(number) for number in range(1, 201)]
    assert (import_capacity.percentile(values, 50), import_capacity.percentile(values, 99)) == (100.0, 198.0)
    assert import_capacity.percentile([7.0], 50) == 7.0


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--instances", "600,1500", "--studies", "4", "--swept-instances", "600", "--output", str(tmp_path)]
    assert import_capacity.main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "import_capacity.md").read_text() + "\n"
    results = json.loads((tmp_path / "import_capacity.json").read_text())
    first = results["backlog"][0]
    assert (first["model"], first["instances"], first["batches"], first["instance_s"]) == ("fixed", 600, 2, 598 + 60)
    assert first["times_faster"] == first["instance_s"] / first["batch_s"]
    assert len(results["backlog"]) == 2 * len(MODELS)
    assert len(results["day"]) == len(MODELS)
    plots = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert len(plots) == 3
    assert all(b"</svg>" in data for data in plots.values())
