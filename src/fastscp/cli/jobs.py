"""The commands fastscp jobs, fastscp jobs show and fastscp jobs retry.

Enters: options and ids. Leaves: rows, verdicts and results on stdout, an exit code that a script can use.
Never: a write but the attempt that retry raises; a control character of a peer's on a terminal.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import click

from fastscp import jobs
from fastscp.cli.jobs_view import Listing, print_batch, print_study, to_json
from fastscp.cli.page import Page, Section, setting_options
from fastscp.errors import CommandError
from fastscp.jobs import STATES, Batch, Job
from fastscp.settings import JOBS_OPTIONS, JobsSettings, load_jobs_settings

POLL_S = 2.0

EXIT_CODES: dict[jobs.Verdict, int] = {"IMPORTED": 0, "PENDING": 3, "FAILED": 4, "UNKNOWN": 5}

_LIST_SECTIONS: list[Section] = [
    (
        "Examples",
        [
            ("fastscp jobs --follow", "what is imported, as it happens"),
            ("fastscp jobs --troubled --limit 0", "everything that was not imported in full"),
            ("fastscp jobs --study 1.2.3 && echo yes", "is this study complete and imported?"),
            ("fastscp jobs show 00112233445566aa-019abcdef012", "which instances failed, and why"),
        ],
    ),
    (
        "States",
        [
            ("RECEIVED", "closed, and known to the workflow"),
            ("WAITING", "for another import of the study, or for one of the concurrent jobs"),
            ("STARTING", "has its turn"),
            ("IMPORTING", "HealthImaging has the job"),
            ("DONE", "the job completed, and every instance is accounted for; some may have failed or be missing"),
            ("FAILED", "no job of this attempt completed; the message says why"),
        ],
    ),
    (
        "Exit status",
        [
            ("0", "shown; with --study: imported, every instance of every batch"),
            ("1", "something could not be found out; one line on stderr says what"),
            ("2", "the configuration or the command line is wrong; one line on stderr names the option"),
            ("3", "with --study: some of it is still to be imported"),
            ("4", "with --study: some of it was not imported, and will not be unless it is sent again or tried again"),
            ("5", "with --study: no batch of this study is known"),
        ],
    ),
]
_EXIT: Section = (
    "Exit status",
    [
        ("0", "done"),
        ("1", "refused, or not possible; one line on stderr says why"),
        ("2", "the configuration or the command line is wrong"),
    ],
)


class _Connection(NamedTuple):
    settings: JobsSettings
    aws: jobs.Aws
    tables: jobs.Tables


def _connect(*flags: Mapping[str, object]) -> _Connection:
    """Flags of the group first; those of its command win."""
    merged: dict[str, object] = {}
    for given in flags:
        merged |= {name: value for name, value in given.items() if value is not None}
    settings = load_jobs_settings(merged)
    aws = jobs.Aws(settings)
    return _Connection(settings, aws, jobs.Tables(aws, settings))


class _Group(Page, click.Group):
    """A page with the commands below it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group("jobs", cls=_Group, sections=_LIST_SECTIONS, invoke_without_command=True, no_args_is_help=False)
@click.option(
    "--status", "states", type=click.Choice(STATES, case_sensitive=False), multiple=True, help="Only batches in this state. Repeatable."
)
@click.option("--troubled", is_flag=True, help="Only batches that failed, or of which instances failed or are missing.")
@click.option("--limit", type=click.IntRange(min=0), metavar="NUMBER", help="The last NUMBER of them; 0 is all. [default: 100]")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C with what changes.")
@click.option("--study", metavar="UID", help="Whether this study is complete and imported, over all its batches.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@setting_options(JOBS_OPTIONS)
@click.pass_context
def jobs_command(
    context: click.Context,
    /,
    states: tuple[jobs.State, ...],
    troubled: bool,
    limit: int | None,
    follow: bool,
    study: str | None,
    as_json: bool,
    **flags: object,
) -> int:
    """Show batches and their import into HealthImaging, those that changed last at the end."""
    if context.invoked_subcommand:
        if states or troubled or limit is not None or follow or study or as_json:
            raise click.UsageError(f"options of the list go without {context.invoked_subcommand}, or behind it", context)
        context.obj = flags
        return 0
    if study is not None:
        if states or troubled or limit is not None or follow:
            raise click.UsageError("--study goes with --json only", context)
        return _study(_connect(flags), study, as_json)
    selection = _Selection(states or STATES, troubled)
    return _list(_connect(flags), selection, 100 if limit is None else limit, follow, as_json)


class _Selection(NamedTuple):
    states: tuple[jobs.State, ...]
    troubled: bool

    def read(self, tables: jobs.Tables, since: str | None = None) -> Iterator[Batch]:
        return (batch for batch in tables.newest(self.states, since) if not self.troubled or jobs.needs_retry(batch))


def _with_jobs(tables: jobs.Tables, batches: list[Batch]) -> list[tuple[Batch, Job | None]]:
    found = tables.jobs_by_id(batch.job_id for batch in batches if batch.job_id)
    return [(batch, found.get(batch.job_id or "")) for batch in batches]


def _list(at: _Connection, selection: _Selection, limit: int, follow: bool, as_json: bool) -> int:
    started_at = datetime.now(UTC)
    batches = list(islice(selection.read(at.tables), limit or None))[::-1]
    listing = Listing(as_json=as_json, table=sys.stdout.isatty() and not follow)
    listing.show(_with_jobs(at.tables, batches), datetime.now(UTC))
    if not follow:
        return 0
    following = jobs.Following(batches, jobs.utc(started_at))
    try:
        while True:
            sys.stdout.flush()
            time.sleep(POLL_S)
            changed = following.changes(lambda since: selection.read(at.tables, since))
            if changed:
                listing.show(_with_jobs(at.tables, changed), datetime.now(UTC))
    except KeyboardInterrupt:
        return 0


def _study(at: _Connection, study_instance_uid: str, as_json: bool) -> int:
    answer = jobs.ask_study(at.aws, at.tables, at.settings.store, study_instance_uid)
    print_study(answer, _with_jobs(at.tables, list(answer.batches)), datetime.now(UTC), as_json=as_json)
    return EXIT_CODES[answer.verdict]


def _find(tables: jobs.Tables, name: str) -> tuple[Batch, Job | None]:
    """The batch of this id, or the job and its batch."""
    batch = tables.batch(name)
    if batch is not None:
        return batch, None
    job = tables.job(name)
    if job is None:
        raise CommandError(f"there is no batch and no job {name!r}")
    batch = tables.batch(job.batch_id or "") if job.batch_id else None
    if batch is None:
        raise CommandError(f"job {name!r} belongs to no batch that is known")
    return batch, job


@jobs_command.command(cls=Page, sections=[_EXIT])
@click.argument("name", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@setting_options(JOBS_OPTIONS)
@click.pass_obj
def show(group_flags: dict[str, Any], /, name: str, as_json: bool, **flags: object) -> int:
    """Show a batch, its jobs, and what became of its instances.

    ID is that of a batch, of which the last job is shown, or of a job. Instances that failed, are missing, were imported with
    warnings or are not primary are listed with the service's messages, which may quote attributes.
    """
    at = _connect(group_flags, flags)
    batch, job = _find(at.tables, name)
    all_jobs = at.tables.jobs_of(batch.batch_id)
    if job is None and batch.job_id:
        job = at.tables.job(batch.job_id)
    result = jobs.read_result(at.aws, job) if job else None
    print_batch(batch, all_jobs, job, result, as_json=as_json)
    return 0


@jobs_command.command(cls=Page, sections=[_EXIT])
@click.argument("name", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@setting_options(JOBS_OPTIONS)
@click.pass_obj
def retry(group_flags: dict[str, Any], /, name: str, as_json: bool, **flags: object) -> int:
    """Import a batch once more.

    ID is that of a batch or of one of its jobs. The batch must be FAILED, or DONE with instances that failed or are missing. All of it is
    imported again: HealthImaging takes what it has already for a newer version of the same.
    """
    at = _connect(group_flags, flags)
    batch, _ = _find(at.tables, name)
    retried = jobs.retry(at.aws, at.tables, at.settings.state_machine, batch)
    if as_json:
        print(to_json({"type": "retry", "batchId": retried.batch_id, "attempt": retried.attempt, "executionArn": retried.execution_arn}))
    else:
        print(f"batch {retried.batch_id}: attempt {retried.attempt} started")
    return 0
