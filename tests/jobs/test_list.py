"""The list of batches: order, selection, pages, what follows, and how it looks."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fastscp import jobs
from fastscp.cli import jobs as command
from fastscp.cli.jobs_view import Listing, duration
from fastscp.jobs.rows import Batch, Job, row
from fastscp.settings import JobsSettings
from tests.jobs.conftest import STUDY, Run, Workflow, at, batch_id

GOLDEN = Path(__file__).parent / "golden"


def ids(out: str) -> list[str]:
    return [json.loads(line)["batchId"] for line in out.splitlines()]


def fill(workflow: Workflow) -> None:
    """One batch in every state, and one that is done and not imported in full."""
    for number, state in enumerate(jobs.STATES):
        workflow.batch(number, state, message="no job was started" if state == "FAILED" else None)
    workflow.batch(6, importedCount=1, failedCount=1, missingCount=1, jobId="job6")
    workflow.job(3, "IN_PROGRESS")
    workflow.job(4)
    workflow.job(6, endedAt=at(40), importedCount=1, failedCount=1, missingCount=1)


def test_json_lines_are_what_is_promised(workflow: Workflow, run: Run) -> None:
    fill(workflow)
    code, out, err = run("--json")
    assert (code, err) == (0, "")
    assert out == (GOLDEN / "list.jsonl").read_text()


def test_plain_lines(workflow: Workflow, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime(2020, 1, 15, 8, 10, tzinfo=UTC)

    monkeypatch.setattr(command, "datetime", Clock)
    fill(workflow)
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out == (GOLDEN / "list.txt").read_text()


def test_the_last_ones_end_the_list(workflow: Workflow, run: Run) -> None:
    for number in range(120):
        workflow.batch(number, jobs.STATES[number % 6])
    assert ids(run("--json")[1]) == [batch_id(number) for number in range(20, 120)]
    assert ids(run("--json", "--limit", "3")[1]) == [batch_id(number) for number in (117, 118, 119)]
    assert ids(run("--json", "--limit", "0")[1]) == [batch_id(number) for number in range(120)]


def test_selection(workflow: Workflow, run: Run) -> None:
    fill(workflow)
    assert ids(run("--json", "--status", "importing", "--status", "FAILED")[1]) == [batch_id(3), batch_id(5)]
    assert ids(run("--json", "--troubled")[1]) == [batch_id(5), batch_id(6)]
    assert ids(run("--json", "--troubled", "--limit", "1", "--status", "FAILED")[1]) == [batch_id(5)]


def pages_of(aws: jobs.Aws, items: int) -> Counter[str]:
    """Makes DynamoDB answer in pages of so many items, and counts the requests."""
    requests: Counter[str] = Counter()

    def limit(params: dict[str, Any], model: Any, **_: Any) -> None:
        requests[model.name] += 1
        if model.name == "Query":
            params["Limit"] = items

    aws.dynamodb.meta.client.meta.events.register("before-parameter-build.dynamodb", limit)
    return requests


def test_pages_are_read_to_their_end_and_only_as_far_as_needed(workflow: Workflow, aws: jobs.Aws) -> None:
    with workflow.batches.batch_writer() as writer:
        for number in range(2000):
            item = {"batchId": batch_id(number), "state": ("DONE", "FAILED")[number % 2], "attempt": 1, "updatedAt": at(number // 4)}
            writer.put_item(Item=item | {"studyInstanceUID": STUDY, "closedAt": at(number)})
    requests = pages_of(aws, 170)
    tables = jobs.Tables(aws, JobsSettings())
    # Four batches share each moment: their order is that of their ids, whichever index they come from.
    assert [batch.batch_id for batch in tables.newest()] == [batch_id(number) for number in reversed(range(2000))]
    assert requests["Query"] == 4 + 2 * 6
    assert [batch.batch_id for batch in tables.of_study(STUDY)] == [batch_id(number) for number in range(2000)]
    requests.clear()
    newest = tables.newest()
    assert [next(newest).batch_id for _ in range(100)] == [batch_id(number) for number in range(1999, 1899, -1)]
    assert requests["Query"] == 6


def test_jobs_are_read_in_portions_and_what_is_left_unprocessed_again(
    workflow: Workflow, aws: jobs.Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    with workflow.jobs.batch_writer() as writer:
        for number in range(250):
            writer.put_item(Item={"jobId": f"job{number}", "jobStatus": "COMPLETED"})
    original = aws.dynamodb.batch_get_item
    sizes = []

    def reluctant(RequestItems: Any) -> Any:
        ((table, asked),) = RequestItems.items()
        sizes.append(len(asked["Keys"]))
        answer = original(RequestItems={table: asked | {"Keys": asked["Keys"][:90]}})
        if asked["Keys"][90:]:
            answer["UnprocessedKeys"] = {table: {"Keys": asked["Keys"][90:]}}
        return answer

    monkeypatch.setattr(aws.dynamodb, "batch_get_item", reluctant)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    found = jobs.Tables(aws, JobsSettings()).jobs_by_id([f"job{number}" for number in range(260)])
    assert set(found) == {f"job{number}" for number in range(250)}
    assert sizes == [100, 100, 80]


def batch_row(number: int, state: str, updated_at: str, **changes: Any) -> Batch:
    return row(Batch, {"batchId": batch_id(number), "state": state, "attempt": 1, "updatedAt": updated_at, **changes})


class TestFollowing:
    def test_each_change_is_shown_once(self) -> None:
        first = batch_row(1, "RECEIVED", at(10))
        following = jobs.Following([first], at(0))
        second = batch_row(1, "DONE", at(20))
        other = batch_row(2, "RECEIVED", at(15))
        assert following.changes(lambda since: [first]) == []
        # The index shows the row under both states for a moment, in any order.
        assert following.changes(lambda since: [second, first, other]) == [other, second]
        assert following.changes(lambda since: [first, second, other]) == []

    def test_it_looks_back_as_far_as_the_index_may_be_behind_and_forgets_what_is_older(self) -> None:
        asked = []

        def read(since: str) -> list[Batch]:
            asked.append(since)
            return rows

        rows = [batch_row(1, "DONE", at(0))]
        following = jobs.Following([], at(0))
        assert following.changes(read) == rows
        rows = [batch_row(2, "DONE", at(600))]
        assert following.changes(read) == rows
        # Written by a clock that is behind.
        rows = [batch_row(3, "DONE", at(500))]
        assert following.changes(read) == rows
        assert asked == ["2020-01-15T07:58:00.000Z", "2020-01-15T07:58:00.000Z", at(480)]
        assert set(following._seen) == {batch_id(2), batch_id(3)}

    def test_the_command_goes_on_until_it_is_interrupted(self, workflow: Workflow, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = iter(
            [
                lambda: workflow.batch(1, "DONE", updatedAt=at(100)),
                lambda: None,
                lambda: (workflow.batch(2, "RECEIVED", updatedAt=at(101)), workflow.batch(3, "FAILED", updatedAt=at(90))),
            ]
        )

        def sleep(seconds: float) -> None:
            step = next(steps, None)
            if step is None:
                raise KeyboardInterrupt
            step()

        monkeypatch.setattr("time.sleep", sleep)
        workflow.batch(1, "RECEIVED", updatedAt=at(80))
        code, out, err = run("--follow", "--json")
        assert (code, err) == (0, "")
        states = [(json.loads(line)["batchId"], json.loads(line)["state"]) for line in out.splitlines()]
        assert states == [(batch_id(1), "RECEIVED"), (batch_id(1), "DONE"), (batch_id(3), "FAILED"), (batch_id(2), "RECEIVED")]


HOSTILE = "A\x1b[2J\n\u202e[red]x"


def test_text_of_peers_and_of_the_service_cannot_move_the_cursor(
    workflow: Workflow, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow.batch(1, "FAILED", message=HOSTILE, callingAeTitles=[HOSTILE], jobId=HOSTILE)
    workflow.job(1, HOSTILE, jobId=HOSTILE, message=HOSTILE)
    shown = r"A\x1b[2J\n\u202e[red]x"
    code, out, _ = run()
    assert code == 0
    assert out.count("\n") == 2
    assert shown in out
    _, out, _ = run("--json")
    assert out.count("\n") == 1
    assert out.isascii()
    assert json.loads(out)["message"] == HOSTILE
    assert json.loads(out)["callingAeTitles"] == [HOSTILE]
    monkeypatch.setenv("COLUMNS", "400")
    batch = row(Batch, workflow.batches.get_item(Key={"batchId": batch_id(1)})["Item"])
    job = row(Job, workflow.jobs.get_item(Key={"jobId": HOSTILE})["Item"])
    Listing(as_json=False, table=True).show([(batch, job)], datetime.now(UTC))
    out = capsys.readouterr().out
    assert shown in out
    assert out.replace("\n", "").isprintable()


def test_on_a_terminal_it_is_a_table(workflow: Workflow, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(workflow)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.count("\n") == 8
    assert "\x1b[31mFAILED" in out
    assert "\x1b[33mDONE" in out


@pytest.mark.parametrize(
    ("begin", "end", "shown"),
    [
        (at(0), at(0), "0s"),
        (at(5), at(0), "0s"),
        (at(0), at(119), "119s"),
        (at(0), at(120), "2m"),
        (at(0), at(7199), "119m"),
        (at(0), at(7200), "2h"),
        ("2020-01-01T00:00:00Z", "2020-01-03T00:00:00.5Z", "2d"),
        (None, at(0), "-"),
        (at(0), None, "-"),
    ],
)
def test_durations(begin: str | None, end: str | None, shown: str) -> None:
    assert duration(begin, end) == shown
