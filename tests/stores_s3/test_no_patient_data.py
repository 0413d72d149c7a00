"""A patient's name in every text of the data sets, with faults, and the log at its most talkative: it stays in the objects.

Enters: names where a modality puts them, and where none belongs. Leaves: objects. Never: a name in a log record, a metric, a key, an
object's metadata, a marker, a manifest or an answer.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.names import (
    CONTEXTS,
    EXTRA,
    NAME,
    SCRIPTS,
    VERIFICATION,
    Script,
    Sent,
    assert_nameless,
    bad_instances,
    good_instances,
    large_instances,
    named,
)
from tests.peers.raw_scu import Aborted, PeerClosed, RawScu
from tests.peers.server import FastScp, serve_options, wait_until
from tests.stores_s3.s3_server import S3Server

STUDY = "1.2.826.0.1.3680043.10.9999.1000000"
MOVE_ORIGINATOR, FIND_RQ = 0x00001030, 0x0020


def send(server: FastScp, instances: Sequence[Sent]) -> list[str]:
    """Each over an association of its own. Returns what the receiver said."""
    said = []
    for context_id, command, data_set in instances:
        with RawScu(server.port) as scu, suppress(Aborted, PeerClosed, OSError):
            scu.associate(CONTEXTS)
            answer = scu.store(command.sop_class, command.sop_instance, data_set, context_id=context_id, data_pdv_bytes=60_000)
            # What the command named comes back in the response: PS3.7 table 9.3-2.
            own = {tag: value for tag, value in answer.elements.items() if tag not in (enc.AFFECTED_SOP_CLASS, enc.AFFECTED_SOP_INSTANCE)}
            said.append(f"{answer.status:04X} {own}")
            scu.release()
    return said


def send_nonsense(server: FastScp) -> None:
    """Messages that are none, breaks in the middle, and other services' messages."""
    good = make(extra=EXTRA)
    command = enc.store_command(good.sop_class, good.sop_instance)
    stream = b"".join(enc.message_pdus(1, command, good.data_set))
    find = enc.command_set(
        [
            (enc.AFFECTED_SOP_CLASS, named()),
            (enc.COMMAND_FIELD, enc.ushort(FIND_RQ)),
            (enc.MESSAGE_ID, enc.ushort(1)),
            (enc.DATA_SET_TYPE, enc.ushort(0)),
        ]
    )
    odd = command + enc.command_set([(MOVE_ORIGINATOR, named())])[12:]
    broken = [
        stream[: stream.index(named()) + 7],
        stream + named() * 3,
        enc.pdu(enc.P_DATA, named() * 10),
        enc.pdu(enc.P_DATA, enc.pdv(1, named() * 10, command=True, last=True)),
        enc.pdu(
            enc.P_DATA, enc.pdv(1, enc.command_set([(0x00000100, enc.ushort(0x0020)), (0x00000002, named())]), command=True, last=True)
        ),
        b"".join(enc.message_pdus(VERIFICATION, command, good.data_set)),
        b"".join(enc.message_pdus(VERIFICATION, find, good.data_set)),
        b"".join(enc.message_pdus(1, find, good.data_set)),
        b"".join(enc.message_pdus(1, odd, good.data_set)),
        *(enc.pdu(enc.P_DATA, enc.pdv(1, named(9, script), command=True, last=True)) for script in SCRIPTS),
    ]
    for bytes_ in broken:
        with RawScu(server.port) as scu, suppress(Aborted, PeerClosed, OSError):
            scu.associate(CONTEXTS)
            scu.send(bytes_)
            scu.half_close()
            scu.wait_closed()
    requests = (
        *(named(5, script) for script in SCRIPTS),
        enc.associate_rq([Context(1, NAME)]),
        enc.associate_rq([Context(1, enc.CT_IMAGE, (NAME,))]),
        enc.associate_rq([Context(1, enc.CT_IMAGE)], application_context=NAME),
        enc.associate_rq([Context(1, enc.CT_IMAGE)], user_items=enc.item(0x55, named()) + enc.item(0x58, b"\x02\x01" + named())),
    )
    for first in requests:
        with RawScu(server.port) as scu, suppress(Aborted, PeerClosed, OSError):
            scu.send(first)
            scu.half_close()
            scu.wait_closed()


def statuses(said: Sequence[str]) -> Counter[str]:
    return Counter(answer[:4] for answer in said)


def assert_told_nothing(server: FastScp, answered: str, said: Sequence[str]) -> None:
    assert_nameless("the log", server.log_text())
    assert_nameless("what the admin port says", answered)
    assert_nameless("the answers", "\n".join(said))


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.terms)
def test_a_name_is_found_where_it_is(script: Script) -> None:
    value, name = script.value, script.name
    plain = [name, ascii(name), json.dumps(name), quote(name), value.decode("latin-1"), repr(b"PN " + value), value.hex()]
    for written in [*plain, *(base64.b64encode(b"x" * n + value + b"y").decode() for n in range(3))]:
        with pytest.raises(AssertionError):
            assert_nameless("a data set", written)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_with_the_file_store(tmp_path: Path, log_format: str) -> None:
    options = serve_options(log_level="debug", workers=1, spill_threshold=2**20, progress_timeout=2, emf_namespace="fastscp/site")
    with FastScp(tmp_path / "received", *options) as server:
        good, bad, large = good_instances(STUDY), bad_instances(), large_instances(STUDY)
        said = send(server, [*good, *bad, *large])
        assert statuses(said)["0000"] == len(good) + 1
        assert statuses(said).keys() == {"0000", "A900", "C000"}
        send_nonsense(server)
        # A store that fails: where the study's directory was, there is none.
        shutil.rmtree(server.store / STUDY)
        (server.store / STUDY).touch()
        failed = send(server, [*good_instances(STUDY), *large_instances(STUDY)])
        assert statuses(failed)["A700"] == len(good) + 1
        answered = server.get("/metrics")[1] + server.get("/readyz")[1]
        assert server.stop() == 0
        assert_told_nothing(server, answered, [*said, *failed])
        assert_nameless("the file names", "\n".join(map(str, tmp_path.rglob("*"))))
        assert len(server.events("association_ended")) >= len(said) + len(failed)


@pytest.mark.parametrize(
    "faults", [[], ["denied", "slow-down", "cut", "reset", "expired", "reset-after-commit"] * 6], ids=["well", "with faults"]
)
def test_with_the_s3_store(s3: S3Server, faults: list[str]) -> None:
    options = serve_options(log_level="debug", workers=1, spill_threshold=6 << 20, progress_timeout=2, put_timeout=3, drain_timeout=10)
    with ExitStack() as stack:
        server = stack.enter_context(FastScp("s3://bucket/site", *options, environment={"AWS_ENDPOINT_URL_S3": s3.url}))
        for operation in ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"):
            s3.faults[operation].extend(faults)
        good = good_instances()
        said = send(server, [*good, *bad_instances(), *large_instances()])
        assert statuses(said)["0000"] == len(good) + 1 if not faults else statuses(said)["A700"] > 0
        send_nonsense(server)
        answered = server.get("/metrics")[1] + server.get("/readyz")[1]
        for pending in s3.faults.values():
            pending.clear()
        server.stop()
        assert_told_nothing(server, answered, said)
        assert_nameless("a request to S3", repr([headers for _, headers in s3.requests]))
        wait_until(lambda: bool(s3.objects), "there are objects")
        for key, stored in s3.objects.items():
            assert_nameless("a key", key)
            assert_nameless("the metadata", repr(stored.headers))
            if not key.endswith(".dcm"):
                assert_nameless(f"the object {key}", stored.body.decode())
        assert {key.split("/")[1] for key in s3.objects} >= {"instances", "open", "batches"}
        assert any(NAME.encode() in stored.body for stored in s3.objects.values())
