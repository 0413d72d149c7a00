"""Names of patients in files that come through the inbox, and in what HealthImaging says of instances: neither leaves its objects.

Enters: files full of names, whole and broken, and failures that quote them. Leaves: rows, executions, records, metrics, keys.
Never: a name in one of those.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable
from typing import Any

import pytest

from importflow.observe import logger
from tests.lambdas.world import KEYS, World
from tests.peers import encoding as enc
from tests.peers.datasets import element, make
from tests.peers.encoding import padded
from tests.peers.names import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    NAME,
    SCRIPTS,
    Sent,
    assert_nameless,
    bad_instances,
    good_instances,
    named,
)

SYNTAXES = {EXPLICIT: enc.EXPLICIT_LE, DEFLATED: enc.DEFLATED_LE, IMPLICIT: enc.IMPLICIT_LE, BIG_ENDIAN: enc.EXPLICIT_BE}
BOUND = "hospital/inbox/"


def file_of(sent: Sent) -> bytes:
    """A Part-10 file (PS3.10 section 7.1)."""
    context, made, data_set = sent
    values = [(0x00020002, made.sop_class), (0x00020003, made.sop_instance), (0x00020010, SYNTAXES[context])]
    meta = b"".join(element(tag, "UI", padded(uid)) for tag, uid in values)
    length = element(0x00020000, "UL", struct.pack("<L", len(meta)))
    return bytes(128) + b"DICM" + length + meta + data_set


def text_of(value: Any) -> str:
    """As JSON, what is no JSON as Python shows it."""
    return json.dumps(value, default=repr)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> Callable[[], str]:
    """Everything that the functions logged, tracebacks included, with their metrics and what libraries warned of."""
    caplog.set_level(logging.DEBUG, logger.name)
    formatter = logging.Formatter()

    def told() -> str:
        records = [text_of(vars(record)) + formatter.format(record) for record in caplog.records]
        captured = capsys.readouterr()
        return "\n".join([*records, captured.out, captured.err, *(str(warning.message) for warning in recwarn)])

    return told


def assert_nothing_left_the_objects(world: World, told: str, *, inbox: str = BOUND) -> None:
    assert_nameless("records and metrics", told)
    for table in ("batches", "jobs"):
        assert_nameless(f"a row of {table}", text_of(world.dynamodb.scan(TableName=table)["Items"]))
    assert_nameless("an execution", text_of(world.states.executions))
    assert_nameless("a job", text_of(world.imaging.jobs))
    for bucket in ("dicom", "results"):
        for key in world.keys(bucket=bucket):
            if key.startswith(inbox):
                continue
            assert_nameless(f"a key of {bucket}", key)
            if key.startswith((KEYS.batches, KEYS.open)):
                assert_nameless(key, world.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def test_files_of_the_inbox(world: World, told: Callable[[], str]) -> None:
    """Their own keys too are text of whoever put them there."""
    good, bad = good_instances(), bad_instances()
    files = [file_of(sent) for sent in [*good, *bad]]
    whole = files[0]
    at = whole.index(named())
    files += [whole[: at + 5], whole[:at], named(9), whole.replace(padded(enc.EXPLICIT_LE), padded(NAME)), b""]
    files += [bytes(128) + b"DICM" + named(40, script) for script in SCRIPTS]
    keys = [f"{BOUND}{NAME}/{number} {SCRIPTS[number % len(SCRIPTS)].name}.dcm" for number in range(len(files))]
    for key, data in zip(keys, files, strict=True):
        world.put(key, data)
    failed = world.trigger(*keys)
    assert len(failed) >= len(bad) // 2
    world.run_executions()
    rows = [row for row in world.dynamodb.scan(TableName="batches")["Items"] if "source" in row]
    assert len(rows) >= len(good)
    written = told()
    assert "refused" in written
    assert "import ended" in written
    assert "CloudWatchMetrics" in written
    assert_nothing_left_the_objects(world, written)


@pytest.mark.parametrize("words", [f"PatientName '{script.name}' has no such form" for script in SCRIPTS], ids=lambda words: words[13:20])
def test_what_health_imaging_says_of_an_instance_stays_in_the_result(world: World, told: Any, words: str) -> None:
    """The result object has it, for the person who must repair the instance."""
    name = world.receive(instances=3)
    refused = world.keys(KEYS.instances(name))[1]
    world.imaging.outcome = lambda key: words if key == refused else None
    world.import_batch(name)
    row = world.row(name)
    assert (row["state"], row["failedCount"]) == ("DONE", 1)
    assert world.json(row["resultKey"])["failed"][0]["message"].endswith(words)
    assert_nothing_left_the_objects(world, told())


def test_a_key_of_the_inbox_is_not_repeated_by_an_event_that_is_refused(world: World, told: Callable[[], str]) -> None:
    assert world.trigger(f"{BOUND}{NAME}.dcm", f"elsewhere/{NAME}.json", f"{KEYS.batches}{NAME}.json") != []
    world.sweep()
    assert_nothing_left_the_objects(world, told())


def test_a_name_in_a_row_would_be_found(world: World, told: Callable[[], str]) -> None:
    world.dynamodb.put_item(TableName="jobs", Item={"jobId": {"S": "1"}, "message": {"S": make().study + SCRIPTS[2].name}})
    with pytest.raises(AssertionError, match="a row of jobs"):
        assert_nothing_left_the_objects(world, told())
