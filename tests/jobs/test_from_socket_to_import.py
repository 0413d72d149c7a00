"""What is told of an instance on its whole way, from the receiver's socket to the end of its import.

Enters: instances full of patients' names. Leaves: records, rows, messages and executions that name its association and its batch.
Never: a patient's name in one of them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastscp.local.embedded import EmbeddedAws, EmbeddedOptions
from fastscp.local.event_source import EventSource
from fastscp.local.healthimaging import Limits
from tests.local.running import Local
from tests.peers.datasets import make
from tests.peers.names import CONTEXTS, EXTRA, NAME, Sent, assert_nameless, good_instances, named
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, wait_until

STUDY = "1.2.826.0.1.3680043.10.9999.2000000"
LIMITS = Limits(submitted_s=0.1, in_progress_s=0.1, file_s=0)


def send(server: FastScp, instances: list[Sent]) -> str:
    """Over one association. Returns its id."""
    with RawScu(server.port) as scu:
        port = scu.sock.getsockname()[1]
        scu.associate(CONTEXTS)
        for number, (context_id, made, data_set) in enumerate(instances, 1):
            answer = scu.store(made.sop_class, made.sop_instance, data_set, context_id=context_id, message_id=number, data_pdv_bytes=60_000)
            assert answer.status == 0
        scu.release()

    def ended() -> list[str]:
        return [str(record["association"]) for record in server.events("association_ended") if record["peer_port"] == port]

    wait_until(lambda: bool(ended()), "its record is there")
    (association,) = ended()
    return association


def everything(local: Local) -> dict[str, str]:
    """What S3, DynamoDB and Step Functions hold that is no instance and not HealthImaging's own, as text."""
    said = {f"rows of {table}": repr(local.dynamodb.scan(TableName=table)["Items"]) for table in local.dynamodb.list_tables()["TableNames"]}
    for bucket in (one["Name"] for one in local.s3.list_buckets()["Buckets"]):
        for stored in local.s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            key = stored["Key"]
            said[f"key {key}"] = key
            if not key.endswith(".dcm"):
                found = local.s3.get_object(Bucket=bucket, Key=key)
                said[f"object {key}"] = found["Body"].read().decode() + repr(found["Metadata"])
            else:
                said[f"metadata of {key}"] = repr(local.s3.head_object(Bucket=bucket, Key=key))
    states = local.aws.client("stepfunctions")
    (machine,) = states.list_state_machines()["stateMachines"]
    for execution in states.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]:
        arn = execution["executionArn"]
        said[f"execution {arn}"] = repr(states.describe_execution(executionArn=arn))
        said[f"history {arn}"] = repr(states.get_execution_history(executionArn=arn, maxResults=1000)["events"])
    return said


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of names where numbers belong
def test_ids_are_named_on_the_whole_way_and_patients_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[dict[str, Any]] = []
    record_of = EventSource._record

    def note(source: EventSource, message: dict[str, Any]) -> dict[str, Any]:
        messages.append(message)
        return record_of(source, message)

    monkeypatch.setattr(EventSource, "_record", note)
    # One that HealthImaging takes for nothing it can import, and says so: its file ends in the middle of a name.
    broken = make(study=STUDY, extra=[*EXTRA, (0x7FE10010, "LT", named()), (0x7FE11010, "UT", named())])
    with EmbeddedAws(EmbeddedOptions(limits=LIMITS)) as aws:
        local = Local(aws)
        with local.receiver("--log-level", "debug", "--workers", "1", quiet_s=3600.0) as server:
            first = send(server, good_instances(STUDY))
            second = send(server, [(1, broken, broken.data_set[:-9])])
            # The drain closes the batch: with another quiet period a busy machine could make two of it.
            assert server.stop() == 0
            receiver_log, records = server.log_text(), list(server.records)
        rows = local.wait_imported([STUDY], len(good_instances()) + 1)
        said = everything(local)
        function_log = aws.function_log.read_text()

    # One batch, of two associations.
    (row,) = rows
    assert (row["state"], row["failedCount"]) == ("DONE", 1)
    batch_id = row["batchId"]
    (closed,) = [record for record in records if record.get("event") == "batch_closed"]
    (opened,) = [record for record in records if record.get("event") == "batch_opened"]
    assert (opened["batch"], opened["association"]) == (batch_id, first)
    assert (closed["batch"], sorted(closed["associations"])) == (batch_id, sorted([first, second]))
    assert sorted(row["associationIds"]) == sorted([first, second])
    (text,) = [text for what, text in said.items() if what.startswith("object ") and what.endswith(f"batches/{batch_id}.json")]
    manifest = json.loads(text.removesuffix("{}"))
    assert sorted(manifest["associationIds"]) == sorted([first, second])
    about = [record for record in map(json.loads, function_log.splitlines()) if record.get("batchId") == batch_id]
    assert {"batch received", "import started", "import ended"} <= {record["message"] for record in about}
    assert {tuple(sorted(record["associationIds"])) for record in about} == {tuple(sorted([first, second]))}
    (metadata,) = [
        text for what, text in said.items() if "instances/" in what and what.startswith("metadata") and what.endswith(broken.relative_path)
    ]
    assert second in metadata

    assert len(messages) >= 1
    assert any("history" in what for what in said)
    for what, text in {"the receiver's log": receiver_log, "the functions' log": function_log, "the messages": repr(messages)}.items():
        assert batch_id in text
        assert_nameless(what, text)
    for what, text in said.items():
        assert_nameless(what, text)
    assert NAME.encode() in broken.data_set
