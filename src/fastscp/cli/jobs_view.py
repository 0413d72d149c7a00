"""How batches, jobs and studies look: a table on a terminal, plain lines elsewhere, JSON lines for programs.

Enters: rows, results, a verdict. Leaves: text on stdout.
Never: a character that is not printable, whoever sent it.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastscp.jobs import Batch, Job, Result, StudyAnswer, needs_retry
from fastscp.observe.log import visible

Pair = tuple[Batch, Job | None]

# Heading and width of a plain line's columns. Study and message, whose length nobody knows, come last.
_COLUMNS = (
    ("BATCH", 29),
    ("STATE", 9),
    ("TRY", 3),
    ("AGE", 4),
    ("TOOK", 4),
    ("INST", 6),
    ("OK", 6),
    ("WARN", 5),
    ("FAIL", 5),
    ("MISS", 5),
    ("NONPRI", 6),
    ("JOB", 32),
    ("JOBSTATUS", 11),
    ("STUDY", 0),
    ("MESSAGE", 0),
)
_RIGHT = {"TRY", "AGE", "TOOK", "INST", "OK", "WARN", "FAIL", "MISS", "NONPRI"}
_STYLES = {"DONE": "green", "FAILED": "red", "IMPORTING": "cyan"}


def to_json(value: object) -> str:
    """One line of ASCII."""
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=True)


def duration(begin: str | None, end: datetime | str | None) -> str:
    """The time between, in its largest unit, in at most four characters; "-" where it is not known."""
    if begin is None or end is None:
        return "-"
    until = datetime.fromisoformat(end) if isinstance(end, str) else end
    # Clocks differ: what has just been received is not of the future.
    seconds = max(int((until - datetime.fromisoformat(begin)).total_seconds()), 0)
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds // length_s}{unit}"
    return f"{seconds}s"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _cells(batch: Batch, job: Job | None, now: datetime) -> list[str]:
    return [
        batch.batch_id,
        batch.state,
        str(batch.attempt),
        duration(batch.received_at, now),
        duration(batch.received_at, batch.ended_at),
        _count(batch.instance_count),
        _count(batch.imported_count),
        _count(batch.warning_count),
        _count(batch.failed_count),
        _count(batch.missing_count),
        _count(batch.non_primary_count),
        batch.job_id or "-",
        job.job_status if job else "-",
        batch.study_instance_uid or "-",
        batch.message or "",
    ]


def _line(cells: Iterable[str]) -> str:
    parts = [
        visible(cell).rjust(width) if heading in _RIGHT else visible(cell).ljust(width)
        for cell, (heading, width) in zip(cells, _COLUMNS, strict=True)
    ]
    return "  ".join(parts).rstrip()


def _table(pairs: Iterable[Pair], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading, _ in _COLUMNS:
        table.add_column(heading, justify="right" if heading in _RIGHT else "left", overflow="fold", no_wrap=heading in _RIGHT)
    for batch, job in pairs:
        style = "yellow" if batch.state == "DONE" and needs_retry(batch) else _STYLES.get(batch.state, "")
        # Text, because a cell that is a string may be taken for markup.
        table.add_row(*(Text(visible(cell), style if at == 1 else "") for at, cell in enumerate(_cells(batch, job, now))))
    return table


def _batch_json(batch: Batch, job: Job | None) -> dict[str, Any]:
    return {"type": "batch", **msgspec.to_builtins(batch), "job": msgspec.to_builtins(job)}


class Listing:
    """Prints batches, as often as there are some.

    Args:
        table: for a terminal, where nothing follows.
    """

    def __init__(self, *, as_json: bool, table: bool) -> None:
        self._as_json, self._table = as_json, table
        self._headed = False

    def show(self, pairs: Sequence[Pair], now: datetime) -> None:
        """Prints these."""
        if self._as_json:
            for batch, job in pairs:
                print(to_json(_batch_json(batch, job)))
        elif self._table:
            Console().print(_table(pairs, now))
        else:
            if not self._headed:
                print(_line(heading for heading, _ in _COLUMNS))
                self._headed = True
            for batch, job in pairs:
                print(_line(_cells(batch, job, now)))


def print_study(answer: StudyAnswer, pairs: Sequence[Pair], now: datetime, *, as_json: bool) -> None:
    """The batches of a study, and the verdict in the last line."""
    if pairs:
        Listing(as_json=as_json, table=sys.stdout.isatty()).show(pairs, now)
    if as_json:
        counts = ("instance", "imported", "warning", "failed", "missing", "unexpected", "non_primary")
        names = {count: "nonPrimaryCount" if count == "non_primary" else f"{count}Count" for count in counts}
        verdict = {
            "type": "study",
            "studyInstanceUID": answer.study_instance_uid,
            "verdict": answer.verdict,
            "reason": answer.reason,
            "batchCount": len(answer.batches),
            "openBatchIds": answer.open_batch_ids,
            "sentAgainBatchIds": answer.sent_again_batch_ids,
            **{names[count]: answer.total(f"{count}_count") for count in counts},
        }
        print(to_json(verdict))
    else:
        print(visible(f"{answer.verdict}: study {answer.study_instance_uid}: {answer.reason}"))


def print_batch(batch: Batch, all_jobs: Sequence[Job], shown: Job | None, result: Result | None, *, as_json: bool) -> None:
    """A batch, its jobs, and the result of one of them."""
    if as_json:
        print(to_json({**_batch_json(batch, shown), "jobs": all_jobs, "result": result}))
        return
    for name, value in msgspec.to_builtins(batch).items():
        if value not in (None, (), ""):
            print(visible(f"{name}: {', '.join(value) if isinstance(value, list | tuple) else value}"))
    for job in all_jobs:
        print(visible(f"job {job.job_id}: attempt {job.attempt}, {job.job_status}, submitted {job.submitted_at}" + _tail(job.message)))
    if result is None:
        print("no result" if shown is None else f"no result of job {visible(shown.job_id)}")
        return
    print(visible(f"result of attempt {result.attempt}: " + ", ".join(f"{v} {k}" for k, v in msgspec.to_builtins(result.counts).items())))
    for line in _instances(result):
        print(visible(line))


def _tail(message: str | None) -> str:
    return f": {message}" if message else ""


def _instances(result: Result) -> Iterable[str]:
    for failed in result.failed:
        yield f"failed  {failed.sop_instance_uid}{_tail(failed.message)}"
    for missing in result.missing:
        yield f"missing  {missing.sop_instance_uid}"
    for warned in result.warned:
        yield f"warned  {warned.sop_instance_uid}{_tail('; '.join(warned.messages))}"
    for other in result.non_primary:
        yield f"nonPrimary  {other.sop_instance_uid}: image set {other.image_set_id}"
    for unexpected in result.unexpected:
        yield f"unexpected  {unexpected.key}"
    for image_set in result.image_sets:
        primary = {True: "primary", False: "not primary", None: "?"}[image_set.is_primary]
        yield f"imageSet  {image_set.image_set_id}: version {image_set.image_set_version}, {primary}, {image_set.instances} instances"
