"""What S3 says was created becomes a row and an execution: once, whatever comes twice, late, disordered or forged."""

import json
import threading
from typing import Any

import pytest

from importflow.errors import PermanentError
from tests.lambdas.world import BATCH_ID, KEYS, World, batch_id, message, s3_event
from trigger_import.events import Created, created, created_in_message
from trigger_import.handler import dispatch

EXECUTION = f"{BATCH_ID}-1"


def deliver(world: World, *bodies: Any) -> list[str]:
    answer = dispatch(world.workflow, {"Records": [message(str(n), body) for n, body in enumerate(bodies)]})
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


class TestEvents:
    def test_a_key_is_decoded(self) -> None:
        assert list(created(s3_event("hospital/inbox/a b+c%/d.dcm"))) == [Created("dicom", "hospital/inbox/a b+c%/d.dcm", None)]
        record = s3_event("")["Records"][0]
        record["s3"]["object"]["key"] = "hospital%2Finbox%2Fa+b%2Bc.dcm"
        assert [one.key for one in created({"Records": [record]})] == ["hospital/inbox/a b+c.dcm"]

    def test_a_version_is_kept(self) -> None:
        assert [one.version for one in created(s3_event("k", version="3sL4"))] == ["3sL4"]
        assert [one.version for one in created(s3_event("k", version="null"))] == [None]

    def test_the_test_event_and_other_events_say_nothing(self) -> None:
        assert created_in_message(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "dicom"})) == []
        removed = s3_event("k")
        removed["Records"][0]["eventName"] = "ObjectRemoved:Delete"
        assert list(created(removed)) == []

    @pytest.mark.parametrize(
        "name", ["ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload", "ObjectCreated:Copy", "s3:ObjectCreated:Post"]
    )
    def test_each_way_of_creating_counts(self, name: str) -> None:
        event = s3_event("k")
        event["Records"][0]["eventName"] = name
        assert len(list(created(event))) == 1

    @pytest.mark.parametrize(
        "body", ["", "{", "[]", "1", '"x"', "{}", '{"Records":7}', '{"Records":[1]}', '{"Records":[{"eventName":"ObjectCreated:Put"}]}']
    )
    def test_what_is_no_event_is_refused(self, body: str) -> None:
        with pytest.raises(PermanentError):
            created_in_message(body)


class TestManifests:
    def test_a_manifest_gets_a_row_and_an_execution(self, world: World) -> None:
        world.receive()
        assert deliver(world, s3_event(KEYS.manifest(BATCH_ID))) == []
        row = world.row()
        assert (row["state"], row["attempt"], row["instanceCount"], row["totalBytes"], row["source"]) == ("RECEIVED", 1, 2, 8, "receiver")
        assert (row["callingAeTitles"], row["calledAeTitles"], row["associationIds"]) == (["MODALITY"], ["FASTSCP"], ["association-1"])
        assert row["executionArn"].endswith(f":execution:import:{EXECUTION}")
        assert json.loads(world.states.executions[EXECUTION]["input"]) == {"batchId": BATCH_ID, "attempt": 1}

    def test_an_event_of_s3_itself_is_taken_too(self, world: World) -> None:
        world.receive()
        assert dispatch(world.workflow, s3_event(KEYS.manifest(BATCH_ID))) is None
        assert world.states.waiting() == [EXECUTION]

    def test_the_same_event_many_times_is_one_execution_and_one_job(self, world: World) -> None:
        world.receive()
        for _ in range(3):
            assert deliver(world, *[s3_event(KEYS.manifest(BATCH_ID))] * 4) == []
        world.run_executions()
        assert deliver(world, s3_event(KEYS.manifest(BATCH_ID))) == []
        world.run_executions()
        assert (list(world.states.executions), len(world.imaging.jobs), world.row()["state"]) == ([EXECUTION], 1, "DONE")

    def test_the_same_event_fifty_times_at_once(self, world: World) -> None:
        world.receive()
        failed: list[str] = []
        gate = threading.Barrier(50)

        def one() -> None:
            gate.wait()
            failed.extend(deliver(world, s3_event(KEYS.manifest(BATCH_ID))))

        threads = [threading.Thread(target=one) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        # Two executions of one attempt side by side would be as harmless.
        steps = [threading.Thread(target=world.machine.run, args=({"batchId": BATCH_ID, "attempt": 1},)) for _ in range(2)]
        for thread in steps:
            thread.start()
        for thread in steps:
            thread.join()
        assert (list(world.states.executions), len(world.imaging.jobs), world.row()["state"]) == ([EXECUTION], 1, "DONE")
        assert world.held() == []

    def test_only_the_message_that_fails_is_given_back(self, world: World) -> None:
        first, second = world.receive(1), world.receive(2)
        bodies = [s3_event(KEYS.manifest(first)), "nonsense", s3_event(KEYS.manifest(batch_id(9))), s3_event(KEYS.manifest(second))]
        assert deliver(world, *bodies) == ["1", "2"]
        assert world.states.waiting() == [f"{first}-1", f"{second}-1"]

    def test_after_an_object_that_fails_the_others_of_a_message_are_taken(self, world: World) -> None:
        world.receive()
        event = {"Records": [*s3_event("hospital/batches/x.json")["Records"], *s3_event(KEYS.manifest(BATCH_ID))["Records"]]}
        assert deliver(world, event) == ["0"]
        assert world.states.waiting() == [EXECUTION]

    @pytest.mark.parametrize("key", ["hospital/batches/x.json", "batches/x.json", "hospital/open/00112233445566aa-019abcdef012.json", "x"])
    def test_a_foreign_key_is_refused(self, world: World, key: str) -> None:
        assert deliver(world, s3_event(key)) == ["0"]
        assert world.states.executions == {}

    def test_another_bucket_is_refused(self, world: World) -> None:
        world.receive()
        assert deliver(world, s3_event(KEYS.manifest(BATCH_ID), bucket="elsewhere")) == ["0"]
        assert world.row() == {}

    def test_a_forged_manifest_is_on_the_row_and_goes_to_the_dead_letter_queue(self, world: World) -> None:
        world.receive()
        world.put(KEYS.manifest(batch_id(5)), world.s3.get_object(Bucket="dicom", Key=KEYS.manifest(BATCH_ID))["Body"].read())
        for _ in range(5):
            assert deliver(world, s3_event(KEYS.manifest(batch_id(5)))) == ["0"]
        row = world.row(batch_id(5))
        assert (row["state"], row["message"]) == (
            "FAILED",
            f"the manifest of batch {batch_id(5)} was refused: the manifest belongs to another key",
        )
        assert world.states.executions == {}

    def test_an_execution_that_has_ended_is_as_good_as_one_that_runs(self, world: World) -> None:
        world.receive()
        assert deliver(world, s3_event(KEYS.manifest(BATCH_ID))) == []
        world.states.executions[EXECUTION]["status"] = "FAILED"
        assert (world.row()["state"], deliver(world, s3_event(KEYS.manifest(BATCH_ID)))) == ("RECEIVED", [])
        assert world.states.waiting() == []

    def test_an_execution_that_could_not_be_started_is_started_by_the_next_event(self, world: World) -> None:
        world.receive()
        world.faults.begin(5, "broken", 5)
        assert deliver(world, s3_event(KEYS.manifest(BATCH_ID))) == ["0"]
        assert world.faults.end()[-1] == "StartExecution"
        assert (world.row()["state"], world.states.executions) == ("RECEIVED", {})
        assert deliver(world, s3_event(KEYS.manifest(BATCH_ID))) == []
        assert world.states.waiting() == [EXECUTION]
