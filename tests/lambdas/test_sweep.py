"""What was left behind goes a step further: markers by the rule of docs/batches.md, rows whose execution ended, places of the dead."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fastscp.batches.manifest import Manifest, decode_manifest
from fastscp.batches.marker import Marker, encode_marker
from fastscp.batches.sweep import closable_at_s
from fastscp.batches.times import utc
from importflow.times import seconds
from start_import_job.start import start_job
from sweep_batches.handler import handler
from sweep_batches.markers import CLOCK_SKEW_S
from sweep_batches.markers import sweep_markers as sweep_markers_of
from tests.lambdas.world import BATCH_ID, KEYS, STUDY, World, a_world, batch_id
from trigger_import.claim import take_turn

LEASE_S, PUT_S = 120.0, 60.0


@pytest.fixture
def world() -> Iterator[World]:
    with a_world(STUCK_AFTER_SECONDS="0") as made:
        yield made


def opened(
    world: World, *, name: str = BATCH_ID, instances: int = 2, expires_in_s: float = LEASE_S, others: tuple[str, ...] = ()
) -> Marker:
    """A batch that its worker left open. The marker's LastModified is now."""
    now = world.clock.now()
    marker = Marker(
        batch_id=name,
        owner="worker",
        opened_at=utc(now - 30),
        expires_at=utc(now + expires_in_s),
        lease_seconds=LEASE_S,
        put_deadline_seconds=PUT_S,
        study_instance_uid=STUDY,
        study_date="20260101",
        calling_ae_titles=("MODALITY",),
        called_ae_titles=("FASTSCP",),
        association_ids=("association-1",),
    )
    for number in range(1, instances + 1):
        world.put(KEYS.instance(name, STUDY, "1.2.1", f"1.2.1.{number}"), b"DICM")
    for key in others:
        world.put(key, b"DICM")
    world.put(KEYS.marker(name), encode_marker(marker))
    return marker


def manifest(world: World, name: str = BATCH_ID) -> Manifest:
    return decode_manifest(KEYS, KEYS.manifest(name), world.s3.get_object(Bucket="dicom", Key=KEYS.manifest(name))["Body"].read())


class TestMarkers:
    def test_a_batch_whose_worker_died_is_closed_and_imported(self, world: World) -> None:
        opened(world)
        world.clock.sleep(LEASE_S + PUT_S + CLOCK_SKEW_S + 2)
        assert world.sweep()["BatchesClosedBySweeper"] == 1
        closed = manifest(world)
        assert (closed.closed_by, closed.close_reason, closed.instance_count, closed.total_bytes) == ("sweeper", "lease", 2, 8)
        world.run_executions()
        assert (world.row()["state"], world.row()["importedCount"], world.row()["closedBy"]) == ("DONE", 2, "sweeper")
        assert world.keys(KEYS.open) == []

    @pytest.mark.parametrize("expires_in_s", [-1000.0, 0.0, LEASE_S, 1000.0])
    def test_it_is_closed_when_the_receivers_rule_says_so_and_not_before(self, world: World, expires_in_s: float) -> None:
        marker = opened(world, expires_in_s=expires_in_s)
        [listed] = world.workflow.dicom.list(KEYS.open)
        at_s = closable_at_s(marker, listed.modified_s)
        world.clock.now_s = at_s - 0.5
        assert world.sweep()["BatchesClosedBySweeper"] == 0
        assert world.keys(KEYS.batches) == []
        world.clock.now_s = at_s
        assert world.sweep()["BatchesClosedBySweeper"] == 1

    def test_only_instances_of_the_study_are_listed(self, world: World) -> None:
        prefix = KEYS.instances(BATCH_ID)
        others = (
            f"{prefix}1.3/1.2.1/1.2.1.7.dcm",
            f"{prefix}{STUDY}/1.2.1/x.dcm",
            f"{prefix}{STUDY}/1.2.1.8.dcm",
            f"{prefix}{STUDY}/1/2/3.dcm",
        )
        opened(world, others=others)
        world.clock.sleep(1000)
        world.sweep()
        assert [entry.sop_instance_uid for entry in manifest(world).instances] == ["1.2.1.1", "1.2.1.2"]

    def test_an_empty_batch_leaves_nothing(self, world: World) -> None:
        opened(world, instances=0)
        world.clock.sleep(1000)
        world.sweep()
        assert (world.keys(KEYS.open), world.keys(KEYS.batches), world.row()) == ([], [], {})

    def test_the_manifest_of_a_worker_stays(self, world: World) -> None:
        opened(world)
        world.receive(marker=False)
        before = manifest(world)
        world.clock.sleep(1000)
        world.sweep()
        assert manifest(world) == before
        assert world.states.waiting() == [f"{BATCH_ID}-1"]

    def test_a_manifest_whose_event_was_lost_is_taken(self, world: World) -> None:
        world.receive()
        assert world.sweep()["BatchesResumed"] == 1
        world.run_executions()
        assert world.row()["state"] == "DONE"

    def test_a_marker_that_came_back_after_the_start_is_deleted(self, world: World) -> None:
        world.import_batch(world.receive())
        opened(world)
        world.sweep()
        assert world.keys(KEYS.open) == []
        assert len(world.imaging.jobs) == 1

    def test_a_marker_of_a_batch_that_waits_stays(self, world: World) -> None:
        world.receive()
        assert world.trigger(KEYS.manifest(BATCH_ID)) == []
        world.sweep()
        assert world.keys(KEYS.open) == [KEYS.marker(BATCH_ID)]

    def test_the_marker_of_a_batch_whose_manifest_was_refused_stays(self, world: World) -> None:
        opened(world)
        world.put(KEYS.manifest(BATCH_ID), b"{}")
        world.sweep()
        assert (world.row()["state"], "instanceCount" in world.row()) == ("FAILED", False)
        world.clock.sleep(86_400)
        world.sweep()
        assert world.keys(KEYS.open) == [KEYS.marker(BATCH_ID)]

    def test_a_marker_that_is_none_holds_up_no_other(self, world: World) -> None:
        world.put(KEYS.marker(batch_id(0)), b"{}")
        world.put(f"{KEYS.open}x.json", b"{}")
        opened(world)
        world.clock.sleep(1000)
        found = world.sweep()
        assert (found["MarkersRefused"], found["BatchesClosedBySweeper"]) == (2, 1)

    def test_a_service_that_fails_for_one_is_tried_for_the_next(self, world: World) -> None:
        for number in (1, 2):
            opened(world, name=batch_id(number))
        world.clock.sleep(1000)
        world.faults.begin(2, "broken")
        found = world.sweep()
        world.faults.end()
        assert (found["BatchesNotSwept"], found["BatchesClosedBySweeper"]) == (1, 1)
        assert world.sweep()["BatchesClosedBySweeper"] == 1

    def test_without_time_nothing_is_begun(self, world: World) -> None:
        opened(world)
        world.clock.sleep(1000)
        assert sweep_markers_of(world.workflow, lambda: False).closed == 0


class TestRows:
    def test_a_row_without_an_execution_gets_one(self, world: World) -> None:
        world.receive()
        assert world.trigger(KEYS.manifest(BATCH_ID)) == []
        world.states.executions.clear()
        assert world.sweep()["BatchesResumed"] == 1
        assert world.states.waiting() == [f"{BATCH_ID}-1"]

    @pytest.mark.parametrize("until", ["RECEIVED", "STARTING", "IMPORTING"])
    def test_a_row_whose_execution_ended_goes_on_where_it_stopped(self, world: World, until: str) -> None:
        world.receive()
        assert world.trigger(KEYS.manifest(BATCH_ID)) == []
        if until != "RECEIVED":
            take_turn(world.workflow, BATCH_ID, 1)
        if until == "IMPORTING":
            start_job(world.workflow, BATCH_ID, 1)
        assert world.row()["state"] == until
        for status, number in (("TIMED_OUT", 2), ("ABORTED", 3), ("FAILED", 4)):
            world.states.executions[world.states.waiting()[0]]["status"] = status
            assert world.sweep()["BatchesResumed"] == 1
            assert world.states.waiting() == [f"{BATCH_ID}-1-{number}"]
        world.run_executions()
        assert (world.row()["state"], world.row()["attempt"], len(world.imaging.jobs)) == ("DONE", 1, 1)
        assert world.held() == []

    def test_a_row_whose_execution_runs_is_left_alone(self, world: World) -> None:
        world.receive()
        assert world.trigger(KEYS.manifest(BATCH_ID)) == []
        for _ in range(3):
            world.clock.sleep(10_000)
            assert world.sweep()["BatchesResumed"] == 0
        assert len(world.states.executions) == 1

    def test_a_row_that_changed_a_moment_ago_is_not_asked_about(self) -> None:
        with a_world() as world:
            world.receive()
            assert world.trigger(KEYS.manifest(BATCH_ID)) == []
            world.states.executions.clear()
            assert world.sweep()["BatchesResumed"] == 0
            world.clock.sleep(world.workflow.settings.stuck_after_s + 1)
            assert world.sweep()["BatchesResumed"] == 1

    def test_an_execution_that_could_not_be_started_is_started_by_the_next_sweep(self, world: World) -> None:
        world.receive()
        assert world.trigger(KEYS.manifest(BATCH_ID)) == []
        world.states.executions[f"{BATCH_ID}-1"]["status"] = "FAILED"
        world.faults.begin(1, "", 0)
        world.sweep()
        at = world.faults.end().index("StartExecution") + 1
        world.states.executions = {f"{BATCH_ID}-1": {"input": "", "status": "FAILED"}, f"{BATCH_ID}-1-2": {"input": "", "status": "FAILED"}}
        world.faults.begin(at, "broken")
        assert world.sweep()["BatchesNotSwept"] == 1
        world.faults.end()
        assert world.sweep()["BatchesResumed"] == 1
        world.run_executions()
        assert world.row()["state"] == "DONE"

    def test_what_has_ended_is_not_touched(self, world: World) -> None:
        world.import_batch(world.receive())
        row = world.row()
        world.clock.sleep(10_000)
        world.sweep()
        assert world.row() == row
        assert len(world.states.executions) == 1


class TestMetrics:
    def test_the_age_is_that_of_the_oldest_that_waits(self, world: World) -> None:
        assert world.sweep()["OldestNotImportedAge"] == 0
        opened(world)
        world.clock.sleep(50)
        assert world.sweep()["OldestNotImportedAge"] == pytest.approx(80, abs=0.01)
        closed_s = world.clock.now() - 500
        world.receive(7, study="1.7", closed_s=closed_s)
        assert world.trigger(KEYS.manifest(batch_id(7))) == []
        assert world.sweep()["OldestNotImportedAge"] == pytest.approx(500, abs=0.01)
        world.run_executions()
        assert world.sweep()["OldestNotImportedAge"] == pytest.approx(world.clock.now() - seconds(world_opened(world)), abs=0.01)

    def test_a_job_that_stays_is_told_of(self, world: World) -> None:
        world.receive()
        assert world.trigger(KEYS.manifest(BATCH_ID)) == []
        take_turn(world.workflow, BATCH_ID, 1)
        world.imaging.job_s = 1e9
        start_job(world.workflow, BATCH_ID, 1)
        assert world.sweep()["JobsRunningLong"] == 0
        world.clock.sleep(3601)
        assert world.sweep()["JobsRunningLong"] == 1
        assert world.row()["state"] == "IMPORTING"

    def test_they_are_published_in_the_embedded_format(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        world.sweep()
        [line] = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
        [directive] = json.loads(line)["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "fastscp"
        assert {"Name": "OldestNotImportedAge", "Unit": "Seconds"} in directive["Metrics"]


def test_the_handler_works_with_what_the_process_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        function_name, memory_limit_in_mb, invoked_function_arn, aws_request_id = "sweep_batches", 512, "arn", "1"

        def get_remaining_time_in_millis(self) -> int:
            return 600_000

    monkeypatch.setattr("sweep_batches.handler.current", lambda: world.workflow)
    context: Any = Context()
    assert handler({"anything": "at all"}, context)["BatchesWaiting"] == 0


def world_opened(world: World) -> str:
    marker = json.loads(world.s3.get_object(Bucket="dicom", Key=KEYS.marker(BATCH_ID))["Body"].read())
    return str(marker["openedAt"])
