"""A patient's name in every text of the data sets, with faults, and the log at its most talkative: it stays in the objects.

Enters: names where a modality puts them, and where none belongs. Leaves: objects. Never: a name in a log record, a metric, a key, an
object's metadata, a marker, a manifest or an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import Made, element, make
from tests.peers.encoding import Context
from tests.peers.raw_scu import Aborted, PeerClosed, RawScu
from tests.peers.server import FastScp, serve_options, wait_until
from tests.stores_s3.s3_server import S3Server

NAME = "Zorglub^Quentin"
WORDS = ("zorglub", "quentin")
TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT", "UN")
VERIFICATION_CONTEXT, FIND_CONTEXT = 3, 5
CONTEXTS = [
    Context(1, enc.CT_IMAGE),
    Context(VERIFICATION_CONTEXT, enc.VERIFICATION),
    Context(7, enc.CT_IMAGE, (enc.DEFLATED_LE,)),
    Context(9, enc.CT_IMAGE, (enc.IMPLICIT_LE,)),
]


def named(count: int = 1) -> bytes:
    value = "\\".join([NAME] * count).encode()
    return value + b" " * (len(value) % 2)


# Of every kind of text, before the identifiers, between and behind them.
EXTRA = [
    (group << 16 | 0x1000 + number, vr, named(1 + number % 3))
    for group in (0x0009, 0x0010, 0x0011, 0x0021)
    for number, vr in enumerate(TEXT_VRS)
] + [(0x00100010, "PN", named()), (0x00100020, "LO", named()), (0x00081030, "LO", named()), (0x00200010, "SH", named())]


def instances() -> list[tuple[int, Made, bytes]]:
    """(presentation context, what the command says, data set): one that is stored, and one for each reason not to store it."""
    good = make(extra=EXTRA)
    deflated = make(extra=EXTRA, deflated=True)
    implicit = make(extra=EXTRA, explicit=False)
    made = [(1, good, good.data_set), (7, deflated, deflated.data_set), (9, implicit, implicit.data_set)]
    for lacking in ("study", "series", "sop_instance", "sop_class"):
        wrong = make(extra=EXTRA, **{lacking: None})
        made.append((1, good, wrong.data_set))
        # A name where a UID belongs.
        wrong = make(extra=EXTRA, **{lacking: NAME})
        made.append((1, good, wrong.data_set))
    made.append((1, Made(good.data_set, enc.CT_IMAGE, NAME, good.study, good.series), make(sop_instance=NAME, extra=EXTRA).data_set))
    made.append((1, Made(good.data_set, NAME, good.sop_instance, good.study, good.series), good.data_set))
    # A date that is none, a head that cannot be read, one that is cut inside a name.
    dated = make(extra=EXTRA)
    made.append((1, dated, dated.data_set.replace(b"20260102", named()[:8])))
    made.append((1, good, named() * 40))
    made.append((1, good, good.data_set[: good.data_set.index(named()) + 5]))
    made.append((7, good, named() * 40))
    made.append((9, good, named() * 40))
    made.append((1, good, element(0x00080008, "CS", named(), length=60000) + good.data_set))
    made.append((1, good, b""))
    spilled = make(extra=EXTRA, pixel_bytes=9 << 20)
    made.append((1, spilled, spilled.data_set))
    made.append((1, spilled, named() * (9 << 16)))
    return made


def send_everything(server: FastScp) -> list[str]:
    """All instances, and messages that are none. Returns what the receiver said."""
    said = []
    for context_id, command, data_set in instances():
        with RawScu(server.port) as scu, suppress(Aborted, PeerClosed, OSError):
            scu.associate(CONTEXTS)
            answer = scu.store(command.sop_class, command.sop_instance, data_set, context_id=context_id)
            said.append(f"{answer.status:04X} {answer.comment} {answer.offending_elements}")
            scu.release()
    good = make(extra=EXTRA)
    stream = b"".join(enc.message_pdus(1, enc.store_command(good.sop_class, good.sop_instance), good.data_set))
    broken = [
        stream[: stream.index(named()) + 7],
        stream + named() * 3,
        enc.pdu(enc.P_DATA, named() * 10),
        enc.pdu(enc.P_DATA, enc.pdv(1, named() * 10, command=True, last=True)),
        enc.pdu(
            enc.P_DATA, enc.pdv(1, enc.command_set([(0x00000100, enc.ushort(0x0020)), (0x00000002, named())]), command=True, last=True)
        ),
        b"".join(enc.message_pdus(VERIFICATION_CONTEXT, enc.store_command(good.sop_class, good.sop_instance), good.data_set)),
    ]
    for bytes_ in broken:
        with RawScu(server.port) as scu, suppress(Aborted, PeerClosed, OSError):
            scu.associate(CONTEXTS)
            scu.send(bytes_)
            scu.half_close()
            scu.wait_closed()
    for first in (named() * 5, enc.associate_rq([Context(1, NAME)]), enc.associate_rq([Context(1, enc.CT_IMAGE, (NAME,))])):
        with RawScu(server.port) as scu, suppress(Aborted, PeerClosed, OSError):
            scu.send(first)
            scu.half_close()
            scu.wait_closed()
    return said


def assert_nameless(what: str, text: str) -> None:
    for word in WORDS:
        at = text.lower().find(word)
        assert at < 0, f"in {what}: {text[max(0, at - 300) : at + 100]!r}"


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def test_the_name_is_looked_for_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        assert_nameless("a data set", make(extra=EXTRA).data_set.decode("latin-1"))


def test_with_the_file_store(tmp_path: Path) -> None:
    options = serve_options(log_level="debug", workers=1, spill_threshold=2**20, progress_timeout=2)
    with FastScp(tmp_path / "received", *options) as server:
        said = send_everything(server)
        assert len([answer for answer in said if answer.startswith("0000")]) == 5
        assert {answer[:4] for answer in said} == {"0000", "A900", "C000"}
        metrics = server.get("/metrics")[1]
        # A store that fails.
        for directory in (tmp_path / "received").iterdir():
            if directory.name != ".incoming":
                for series in directory.iterdir():
                    for file in series.iterdir():
                        file.unlink()
                        file.mkdir()
        send_everything(server)
        assert server.stop() == 0
        assert_nameless("the log", server.log_text())
        assert_nameless("the metrics", metrics)
        assert_nameless("the answers", repr(said))
        assert_nameless("the file names", "\n".join(map(str, tmp_path.rglob("*"))))
        assert len(server.records) > 40


@pytest.mark.parametrize(
    "faults", [[], ["denied", "slow-down", "cut", "reset", "expired", "reset-after-commit"] * 6], ids=["well", "with faults"]
)
def test_with_the_s3_store(s3: S3Server, faults: list[str]) -> None:
    options = serve_options(log_level="debug", workers=1, spill_threshold=6 << 20, progress_timeout=2, put_timeout=3, drain_timeout=10)
    with ExitStack() as stack:
        server = stack.enter_context(FastScp("s3://bucket/site", *options, environment={"AWS_ENDPOINT_URL_S3": s3.url}))
        for operation in ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"):
            s3.faults[operation].extend(faults)
        said = send_everything(server)
        metrics = server.get("/metrics")[1] + server.get("/readyz")[1]
        for pending in s3.faults.values():
            pending.clear()
        server.stop()
        assert_nameless("the log", server.log_text())
        assert_nameless("the metrics", metrics)
        assert_nameless("the answers", repr(said))
        wait_until(lambda: bool(s3.objects), "there are objects")
        for key, stored in s3.objects.items():
            assert_nameless("a key", key)
            assert_nameless("the metadata", repr(stored.headers))
            if not key.endswith(".dcm"):
                assert_nameless(f"the object {key}", stored.body.decode())
        assert any(NAME.encode() in stored.body for stored in s3.objects.values())
