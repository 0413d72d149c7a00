"""Every error of every service, at every call: afterwards the rows tell the truth, and there was one import.

A run without faults counts the calls. Then, for each of them, the same run with that call failing in each way that a service can fail:
refused without effect, or done and its answer lost.
"""

import itertools
from collections.abc import Iterator

import pytest

from tests.lambdas.world import KEYS, World, a_world

IMAGING = ("StartDICOMImportJob", "GetDICOMImportJob")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One world for all runs, each of which has a batch and a study of its own."""
    with a_world(STUCK_AFTER_SECONDS="0") as made:
        made.imaging.job_s = 5.0
        yield made


@pytest.fixture(scope="module")
def calls(world: World) -> list[str]:
    """The calls of a run in which nothing fails."""
    batch, names = run(world, at=0, kind="")
    assert_imported_once(world, batch)
    return names


def run(world: World, *, at: int, kind: str, until: int = 0) -> tuple[str, list[str]]:
    """One batch from its event to the end of its execution; then the services answer again, and there is one sweep.

    Returns the batch, and the calls before the sweep.
    """
    number = next(_numbers)
    batch = world.receive(number, study=f"1.2.{number}")
    world.faults.begin(at, kind, until)
    # As SQS delivers it: again, where it failed.
    for _ in range(5):
        if world.trigger(KEYS.manifest(batch)) == []:
            break
    world.run_executions()
    names = world.faults.end()
    world.clock.sleep(3600)
    world.sweep()
    world.run_executions()
    return batch, names


def assert_imported_once(world: World, batch: str, *, lock_may_stay: bool = False) -> None:
    row = world.row(batch)
    assert (row["state"], row["attempt"], row.get("importedCount"), row.get("failedCount")) == ("DONE", 1, 2, 0), row
    assert len([job for job in world.imaging.jobs.values() if batch in job["jobName"]]) == 1
    job = world.job_row(row["jobId"])
    assert (job["jobStatus"], job["importedCount"], job["batchId"]) == ("COMPLETED", 2, batch)
    assert world.json(row["resultKey"])["counts"]["imported"] == 2
    held = world.held(row["studyInstanceUID"])
    # A lock whose owner has ended is nobody's: see test_turns.py.
    assert held == [] or (lock_may_stay and held == [f"lock of {batch}-1"])
    assert KEYS.marker(batch) not in world.keys(KEYS.open)
    world.forget(batch)


def test_a_run_calls_every_service(calls: list[str]) -> None:
    assert {"StartDICOMImportJob", "GetDICOMImportJob", "StartExecution", "PutItem", "UpdateItem", "PutObject", "DeleteObject"} <= set(
        calls
    )


@pytest.mark.parametrize("kind", ["throttled", "broken", "lost"])
def test_any_call_may_fail_once(world: World, calls: list[str], kind: str) -> None:
    for at in range(1, len(calls) + 1):
        batch, names = run(world, at=at, kind=kind)
        assert names[at - 1] == calls[at - 1]
        assert_imported_once(world, batch)


@pytest.mark.parametrize("kind", ["quota", "conflict"])
def test_health_imaging_may_refuse(world: World, calls: list[str], kind: str) -> None:
    for at in [at for at, name in enumerate(calls, 1) if name in IMAGING]:
        batch, _ = run(world, at=at, kind=kind)
        assert_imported_once(world, batch)


@pytest.mark.parametrize("kind", ["broken", "lost"])
def test_from_any_call_on_nothing_may_answer(world: World, calls: list[str], kind: str) -> None:
    for at in range(1, len(calls) + 1):
        batch, _ = run(world, at=at, kind=kind, until=1_000_000)
        if at > 1 and not world.row(batch):
            # Nobody saw the event: SQS has it still, in its dead-letter queue at last.
            assert world.trigger(KEYS.manifest(batch)) == []
            world.run_executions()
        assert_imported_once(world, batch, lock_may_stay=True)
