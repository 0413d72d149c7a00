"""Whose turn it is: one job for a study, so many at once, so many starts a second, the oldest first."""

import itertools
import threading

import pytest

from importflow import turns
from importflow.times import seconds
from start_import_job.start import start_job
from tests.lambdas.world import BATCH_ID, KEYS, World, a_world, batch_id
from trigger_import.claim import take_turn


def claim(world: World, name: str, attempt: int = 1) -> str:
    return take_turn(world.workflow, name, attempt)["next"]


def received(world: World, number: int, **how: object) -> str:
    name = world.receive(number, **how)  # type: ignore[arg-type]
    assert world.trigger(KEYS.manifest(name)) == []
    return name


class TestStudyLock:
    def test_the_next_batch_of_a_study_waits_for_the_one_before(self, world: World) -> None:
        now = world.clock.now()
        first, second = received(world, 2, closed_s=now - 20), received(world, 1, closed_s=now - 10)
        assert (claim(world, second), claim(world, first), claim(world, second)) == ("WAIT", "START", "WAIT")
        world.machine.run({"batchId": first, "attempt": 1})
        assert claim(world, second) == "START"

    def test_batches_of_a_study_go_in_the_order_of_their_close(self, world: World) -> None:
        now = world.clock.now()
        names = [received(world, number, closed_s=now - closed) for number, closed in ((1, 10.5), (2, 30), (3, 20), (4, 20.25))]
        started = []
        for _ in names:
            ready = [name for name in names if name not in started and claim(world, name) == "START"]
            assert len(ready) == 1
            started += ready
            world.machine.run({"batchId": ready[0], "attempt": 1})
        assert started == [names[1], names[3], names[2], names[0]]

    def test_never_two_jobs_of_one_study_at_once(self, world: World) -> None:
        names = [received(world, number) for number in range(1, 5)]
        threads = [threading.Thread(target=world.machine.run, args=({"batchId": name, "attempt": 1},)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [world.row(name)["state"] for name in names] == ["DONE"] * 4
        ends = sorted((job["submitted_s"], job["ends_s"]) for job in world.imaging.jobs.values())
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(ends))

    def test_the_lock_of_one_who_ended_is_taken(self, world: World) -> None:
        world.import_batch(world.receive(1))
        gone = world.row(batch_id(1))
        assert turns.lock_study(world.workflow, gone)
        assert claim(world, received(world, 2)) == "START"

    def test_the_lock_of_one_who_works_is_not_taken_and_is_renewed(self, world: World) -> None:
        first = received(world, 1)
        assert claim(world, first) == "START"
        other = world.row(first) | {"batchId": batch_id(2)}
        assert not turns.lock_study(world.workflow, other)
        world.clock.sleep(turns.LOCK_S * 0.6)
        turns.renew_lock(world.workflow, world.row(first))
        world.clock.sleep(turns.LOCK_S * 0.6)
        assert not turns.lock_study(world.workflow, other)
        world.clock.sleep(turns.LOCK_S)
        assert turns.lock_study(world.workflow, other)


class TestPlaces:
    def test_no_more_jobs_than_there_are_places(self) -> None:
        with a_world(CONCURRENT_JOBS="2") as world:
            names = [received(world, number, study=f"1.2.{number}") for number in range(1, 5)]
            assert [claim(world, name) for name in names] == ["START", "START", "WAIT", "WAIT"]
            world.machine.run({"batchId": names[0], "attempt": 1})
            assert [claim(world, name) for name in names[2:]] == ["START", "WAIT"]

    def test_who_read_before_another_took_the_last_place_does_not_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with a_world(CONCURRENT_JOBS="2") as world:
            monkeypatch.setattr(world.workflow.batches, "get", lambda _key: None)
            assert [turns.take_place(world.workflow, {"batchId": batch_id(n), "attempt": 1}) for n in range(4)] == [
                True,
                True,
                False,
                False,
            ]

    def test_a_place_of_one_who_ended_is_given_back_by_the_sweeper(self, world: World) -> None:
        world.import_batch(world.receive())
        assert turns.take_place(world.workflow, world.row())
        assert world.sweep()["PlacesReleased"] == 1
        assert world.held() == []

    def test_a_place_of_one_who_works_stays(self, world: World) -> None:
        claim(world, received(world, 1))
        assert world.sweep()["PlacesReleased"] == 0
        assert len(world.held()) == 2

    def test_a_release_for_an_earlier_attempt_takes_nothing_from_a_later(self, world: World) -> None:
        claim(world, received(world, 1))
        row = world.row(batch_id(1))
        turns.release(world.workflow, row | {"attempt": 2})
        assert world.held() == [f"lock of {batch_id(1)}-1", f"{batch_id(1)}-1"]
        turns.release(world.workflow, row)
        turns.release(world.workflow, row)
        assert world.held() == []


class TestSlots:
    def test_slots_are_an_interval_apart(self) -> None:
        with a_world(STARTS_PER_SECOND="4") as world:
            now = world.clock.now()
            slots = [turns.take_slot(world.workflow) - now for _ in range(4)]
            assert slots == pytest.approx([0, 0.25, 0.5, 0.75], abs=0.002)
            world.clock.sleep(10)
            assert turns.take_slot(world.workflow) == pytest.approx(now + 10, abs=0.002)

    def test_at_once_nobody_gets_the_slot_of_another(self, world: World) -> None:
        slots: list[float] = []
        threads = [threading.Thread(target=lambda: slots.append(turns.take_slot(world.workflow))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ordered = sorted(slots)
        assert [later - earlier for earlier, later in itertools.pairwise(ordered)] == pytest.approx([1.0] * 19)

    def test_a_second_claim_keeps_its_slot(self, world: World) -> None:
        name = received(world, 1)
        began_s = world.clock.now()
        assert [claim(world, name) for _ in range(3)] == ["START"] * 3
        assert seconds(world.row(name)["slotAt"]) == pytest.approx(began_s, abs=0.002)
        assert turns.take_slot(world.workflow) == pytest.approx(began_s + 1, abs=0.002)

    def test_a_slot_that_has_long_passed_is_taken_anew(self, world: World) -> None:
        name = received(world, 1)
        claim(world, name)
        world.clock.sleep(60)
        claim(world, name)
        assert seconds(world.row(name)["slotAt"]) == pytest.approx(world.clock.now(), abs=0.002)

    def test_a_429_puts_off_everybody_and_takes_another_slot(self, world: World) -> None:
        world.imaging.rate_per_s, world.imaging._allowance, world.imaging._allowed_at_s = 1.0, 0.0, world.clock.now()
        world.import_batch(world.receive())
        assert world.machine.story[3:5] == ["StartImportJob", "TriggerImport"]
        assert (world.row()["state"], world.imaging.calls.count("StartDICOMImportJob")) == ("DONE", 2)
        # Nothing was started by the first: no list of jobs had to be searched.
        assert "ListDICOMImportJobs" not in world.imaging.calls

    def test_a_402_waits_for_another_to_end(self, world: World) -> None:
        world.imaging.most_jobs = 0
        world.receive()
        assert world.trigger(KEYS.manifest(BATCH_ID)) == []
        sleep = world.clock.sleep

        def until_there_is_room(for_s: float) -> None:
            sleep(for_s)
            world.imaging.most_jobs = len(world.imaging.calls) // 3

        world.clock.sleep = until_there_is_room  # type: ignore[method-assign]
        world.run_executions()
        assert "WaitForQuota" in world.machine.story
        assert (world.row()["state"], len(world.imaging.jobs)) == ("DONE", 1)

    def test_many_batches_use_the_rate_and_are_never_refused(self) -> None:
        with a_world(STARTS_PER_SECOND="1", CONCURRENT_JOBS="100") as world:
            world.imaging.rate_per_s = 1.0
            names = [received(world, number, study=f"1.2.{number}", instances=1) for number in range(1, 21)]
            waits = sorted((take_turn(world.workflow, name, 1)["seconds"], name) for name in names)
            began_s = world.clock.now()
            for wait_s, name in waits:
                world.clock.now_s = max(world.clock.now(), began_s + wait_s)
                assert start_job(world.workflow, name, 1)["next"] == "CHECK"
            assert world.imaging.calls.count("StartDICOMImportJob") == len(world.imaging.jobs) == 20
            assert world.clock.now() - began_s <= 20 / 0.8
