"""The schedules that the rules of a batch's life are there for, one by one, on the model that the random ones run on.

The random schedules rarely come this far: each of these fails as soon as the rule that it names is left out.
"""

from collections.abc import Callable, Iterator

import pytest

from fastscp.errors import StoreError
from tests.batches.test_model import KEYS, LIMITS, BatchLife, Send

GRACE_S = LIMITS.lease_s + LIMITS.put_deadline_s + 30


class Life(BatchLife):
    """One worker that matters, steps by name."""

    def send_one(self, instance: int, far: str = "acknowledged") -> None:
        self.send(0, "1.1", "2.1", instance, 20, False, far)

    def under_way(self) -> Send:
        (send,) = self.workers[0].sends
        return send

    def first_job(self) -> None:
        self.job_goes_on(0, 0, "ok")

    def commit_under_way(self) -> bool:
        """Begin, land and end the one send that is under way. Returns whether it was acknowledged."""
        send = self.under_way()
        if send.began_at_s is None:
            self.begin_put(0, 0)
        self.put_ends(0, 0, False, False, 0)
        return send.ticket.key in self.acknowledged

    def sweep_all(self) -> None:
        self.sweeper_looks(0.0)
        while self.sweeps:
            self.sweeper_goes_on(0, "ok")


@pytest.fixture
def life() -> Iterator[Life]:
    life = Life()
    life.start(True, (0.0, 0.0), 0.0)
    yield life
    life.check()
    life.everything_ends()


def test_a_renewal_that_is_known_too_late_is_none(life: Life) -> None:
    life.send_one(1)
    life.send_one(2, "joined")
    life.time_passes(LIMITS.lease_s - 1)
    life.tick(0)
    life.first_job()
    # The worker stands still before the write of the marker: shorter than a lease, and long enough for the sweeper to list the batch.
    life.time_passes(GRACE_S - LIMITS.lease_s + 5)
    life.sweeper_looks(0.0)
    life.sweeper_goes_on(0, "ok")
    life.first_job()
    assert not life.commit_under_way()
    life.sweeper_goes_on(0, "ok")


def test_a_late_renewal_does_not_make_the_lease_shorter_than_its_worker_knows_it(life: Life) -> None:
    life.send_one(1)
    life.send_one(2, "joined")
    life.time_passes(31)
    life.tick(0)
    life.first_job()
    life.job_goes_on(0, 0, "late")
    for _ in range(6):
        life.time_passes(31)
        life.tick(0)
        life.jobs_end_well(0)
    life.late_write_lands(0)
    life.time_passes(100)
    life.sweep_all()
    assert not life.manifests
    assert life.commit_under_way()


def test_a_put_that_began_with_a_lease_lands_before_the_sweep(life: Life) -> None:
    life.send_one(1)
    life.send_one(2, "joined")
    life.time_passes(LIMITS.lease_s - 1)
    life.begin_put(0, 0)
    life.time_passes(LIMITS.put_deadline_s - 1)
    life.sweeper_looks(29.0)
    while life.sweeps:
        life.sweeper_goes_on(0, "ok")
    assert not life.manifests
    life.put_lands(0, 0)
    life.time_passes(60)
    life.sweep_all()
    (manifest,) = life.manifests.values()
    assert manifest.instance_count == 2


def test_the_lease_counts_from_before_the_write_and_not_from_its_answer(life: Life) -> None:
    life.send_one(1, "begun")
    life.first_job()
    life.job_writes_unheard(0, 0)
    life.time_passes(100)
    life.first_job()
    # The PUT took longer than it may: it never happened.
    life.put_ends(0, 0, True, True, 0)
    life.send_one(2)
    life.send_one(3, "joined")
    life.time_passes(GRACE_S - 100)
    life.sweep_all()
    assert len(life.manifests) == 1
    assert not life.commit_under_way()


def test_a_put_that_failed_never_overwrites_the_one_that_was_acknowledged_after_it(life: Life) -> None:
    life.send_one(1, "begun")
    life.jobs_end_well(0)
    life.put_ends(0, 0, True, False, 0)
    life.send_one(1)
    life.put_lands(0, 0)
    assert len(life.world.list("store/instances/")) == 2


def test_an_overwrite_that_failed_and_landed_is_not_denied_by_the_manifest(life: Life) -> None:
    life.send_one(1)
    life.send_one(1, "begun")
    life.put_ends(0, 0, True, False, 0)
    life.time_passes(16)
    life.tick(0)
    life.jobs_end_well(0)
    (manifest,) = life.manifests.values()
    life.put_lands(0, 0)
    assert [(entry.size, entry.crc64nvme) for entry in manifest.instances] == [(None, None)]


def test_an_import_that_nobody_started_is_started_before_the_marker_goes(life: Life) -> None:
    life.send_one(1)
    life.worker_drains(0)
    life.jobs_end_well(0)
    life.sweep_all()
    life.check()
    assert life.started == set(life.manifests)
    life.sweep_all()
    assert not life.world.list(KEYS.open)


def test_a_renewal_that_lands_after_the_marker_was_deleted_is_cleared_away(life: Life) -> None:
    life.send_one(1)
    life.send_one(2, "joined")
    life.time_passes(31)
    life.tick(0)
    life.first_job()
    life.job_goes_on(0, 0, "late")
    assert life.commit_under_way()
    life.worker_drains(0)
    life.jobs_end_well(0)
    life.import_starts(0, True)
    assert not life.world.list(KEYS.open)
    life.late_write_lands(0)
    assert life.world.list(KEYS.open)
    life.sweep_all()
    assert not life.world.list(KEYS.open)


def test_without_renewals_a_worker_goes_on_in_a_new_batch_and_the_sweeper_closes_the_old_one(life: Life) -> None:
    life.send_one(1)
    life.send_one(2, "joined")
    for _ in range(4):
        life.time_passes(31)
        life.tick(0)
        while life.workers[0].jobs:
            life.job_goes_on(0, 0, "lost")
    assert not life.commit_under_way()
    life.send_one(2)
    assert len(set(life.acknowledged.values())) == 2
    life.time_passes(GRACE_S)
    life.sweep_all()
    assert {manifest.closed_by for manifest in life.manifests.values()} == {"sweeper"}


def test_who_has_waited_long_can_ask_whether_to_begin(life: Life) -> None:
    life.send_one(1, "joined")
    ticket = life.under_way().ticket
    ticket.check()
    life.jobs_end_well(0)
    ticket.check()
    life.time_passes(LIMITS.lease_s)
    with pytest.raises(StoreError):
        ticket.check()
    ticket.failed(may_have_landed=False)
    ticket.failed()
    life.workers[0].sends.clear()


@pytest.mark.parametrize("first", ["worker", "sweeper"])
def test_of_two_that_close_a_batch_the_first_one_did(life: Life, first: str) -> None:
    life.send_one(1)
    life.send_one(2, "joined")
    assert life.commit_under_way()
    life.worker_drains(0)
    life.first_job()
    # The worker stands still before the write of the manifest, until the sweeper has one, too.
    life.time_passes(GRACE_S)
    life.sweeper_looks(0.0)
    life.sweeper_goes_on(0, "ok")
    steps: list[Callable[[], None]] = [life.first_job, lambda: life.sweeper_goes_on(0, "ok")]
    for step in steps if first == "worker" else steps[::-1]:
        step()
    (manifest,) = life.manifests.values()
    assert manifest.closed_by == first
    assert not life.workers[0].jobs


STEPS: list[Callable[[Life], object]] = [
    lambda life: life.send_one(1, "joined"),
    lambda life: life.first_job(),
    lambda life: life.job_writes_unheard(0, 0),
    lambda life: life.begin_put(0, 0),
    lambda life: life.put_lands(0, 0),
    lambda life: life.first_job(),
    lambda life: life.put_ends(0, 0, False, False, 0),
    lambda life: life.send_one(1, "begun"),
    lambda life: life.put_lands(0, 0),
    lambda life: life.put_ends(0, 0, False, False, 0),
    lambda life: life.worker_drains(0),
    lambda life: life.first_job(),
    lambda life: life.job_writes_unheard(0, 0),
    lambda life: life.first_job(),
]


@pytest.mark.parametrize("outcome", ["lost", "landed", "late"])
@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_a_kill_after_any_step(life: Life, steps: int, outcome: str) -> None:
    for step in STEPS[:steps]:
        step(life)
        life.check()
    life.worker_crashes(0, 0.0, [outcome] * 8)  # type: ignore[list-item]
    assert bool(life.acknowledged) == (steps > 6)
    assert bool(life.manifests) == (steps > 12 or (steps == 12 and outcome == "landed"))
