"""PDUs that are read together with those before them.

Enters: data sets in PDUs of one length, and what may come instead of the next. Leaves: what one byte after another would have given.
Never: a wait, or an expectation on how many reads it takes, but for the one test of that.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reference import traffic
from reference.driving import MESSAGE_CONTEXT_ID, Limits, ask_reference, pieces
from reference.lookahead import ask_wire
from reference.reference_dimse import encode_store_request

PDV_BYTES = 5000
DATA_SET = traffic.data_set(pixels=b"".join(number.to_bytes(4, "little") for number in range(30_000)))
COMMAND = traffic.p_data(traffic.pdv(1, encode_store_request(), command=True, last=True))
CUT = 40_000
"""Eight PDUs come before what is not expected."""


def regular(data: bytes, *, last: bool = True, pdv_bytes: int = PDV_BYTES) -> bytes:
    """One PDV in each PDU, all of one length but the last."""
    cut = [data[at : at + pdv_bytes] for at in range(0, len(data), pdv_bytes)]
    return b"".join(traffic.p_data(traffic.pdv(1, piece, command=False, last=last and at == len(cut) - 1)) for at, piece in enumerate(cut))


FRONT = COMMAND + regular(DATA_SET[:CUT], last=False)
REST = DATA_SET[CUT:]
AFTER: dict[str, bytes] = {
    "the rest in the same PDUs": regular(REST),
    "a shorter one, then the same": regular(REST[:3000], last=False) + regular(REST[3000:]),
    "a longer one, then the same": regular(REST[:7000], last=False, pdv_bytes=7000) + regular(REST[7000:]),
    "one of one byte, then the same": regular(REST[:1], last=False) + regular(REST[1:]),
    "an empty one, then the same": traffic.p_data(traffic.pdv(1, b"", command=False, last=False)) + regular(REST),
    "the rest in much shorter PDUs": regular(REST, pdv_bytes=37),
    "the rest in much longer PDUs": regular(REST, pdv_bytes=15_000),
    "two fragments in each PDU": traffic.packed(traffic.fragments(1, REST, [PDV_BYTES] * 30, command=False), [2] * 30),
    "PDUs of the same length with two fragments": traffic.packed(
        traffic.fragments(1, REST, [2000, PDV_BYTES - 2006] * 30, command=False), [2] * 30
    ),
    "the last of the same length, then another message": regular(REST[:PDV_BYTES]) + traffic.echo(255) + traffic.echo(1),
    "a shorter last, then another instance": regular(REST[:4000]) + COMMAND + regular(DATA_SET),
    "an empty last, then another instance": regular(REST[:PDV_BYTES], last=False)
    + traffic.p_data(traffic.pdv(1, b"", command=False, last=True))
    + COMMAND
    + regular(DATA_SET),
    "another context": regular(REST[:PDV_BYTES], last=False)
    + traffic.p_data(traffic.pdv(3, REST[:PDV_BYTES], command=False, last=False))
    + regular(REST),
    "a context that was not accepted": traffic.p_data(traffic.pdv(9, REST[:PDV_BYTES], command=False, last=False)) + regular(REST),
    "a command of the same length": traffic.p_data(traffic.pdv(1, REST[:PDV_BYTES], command=True, last=False)) + regular(REST),
    "an abort": traffic.ABORT + regular(REST),
    "a release, then the rest": traffic.RELEASE_RQ + regular(REST),
    "another PDU that looks like the next": traffic.pdu(0x01, traffic.pdv(1, REST[:PDV_BYTES], command=False, last=False)) + regular(REST),
    "no PDU": b"\xff" * 20_000,
    "a PDU with no length": b"\x04\0" + bytes(20_000),
    "a PDU with every length": b"\x04\0" + b"\xff" * 20_000,
    "a fragment longer than its PDU": traffic.pdu(0x04, traffic.pdv(1, REST[:6000], command=False, last=False)[: PDV_BYTES + 6])
    + regular(REST),
    "a PDU longer than its fragment": traffic.pdu(0x04, traffic.pdv(1, REST[:4000], command=False, last=False) + bytes(1000))
    + regular(REST),
    "nothing more": b"",
}
LIMITS = {
    "no limit": Limits(),
    "a spill now and then": Limits(spill_threshold_bytes=12_345),
    "a spill at the edge of a PDU": Limits(spill_threshold_bytes=20_000),
    "too large where all is as expected": Limits(max_instance_bytes=32_000),
    "too large at the edge of a PDU": Limits(max_instance_bytes=30_000),
    "too large at what is not expected": Limits(max_instance_bytes=CUT + 4500),
}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_whatever_follows_is_what_it_would_be_alone(after: bytes, limits: Limits) -> None:
    stream = FRONT + after
    assert ask_wire([stream], limits) == ask_reference([stream], limits)


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("at", [1, 6, 11, 12, 13, 2500, 5011, 5012, 5013])
def test_wherever_the_bytes_stop_for_a_while(after: bytes, at: int) -> None:
    stream = FRONT + after
    stops = [*range(at, len(FRONT), PDV_BYTES + 12), *range(len(FRONT) + at, len(stream), 9001)]
    assert ask_wire(pieces(stream, stops), Limits()) == ask_reference([stream])


@pytest.mark.parametrize("following", [traffic.echo(MESSAGE_CONTEXT_ID), COMMAND + regular(DATA_SET[:3000]), traffic.RELEASE_RQ])
def test_a_message_that_begins_behind_a_last_fragment_may_stop_anywhere(following: bytes) -> None:
    stream = FRONT + regular(REST[:PDV_BYTES])
    for begun_bytes in range(1, min(len(following), 400)):
        sent = [stream + following[:begun_bytes], following[begun_bytes:]]
        assert ask_wire(sent, Limits()) == ask_reference([stream + following])


@pytest.mark.parametrize("pdv_bytes", [1, 2, 500, 4000, 16_378, 65_000, 131_060, 300_000])
def test_any_length_and_any_segments(pdv_bytes: int) -> None:
    data_set = traffic.data_set(pixels=bytes(min(1_200_000, 4000 * pdv_bytes)))
    stream = traffic.store(1, data_set, pdv_bytes=pdv_bytes) * 2 + traffic.echo(MESSAGE_CONTEXT_ID)
    limits = Limits(max_pdu_bytes=131_072)
    assert ask_wire(pieces(stream, range(0, len(stream), 900_000)), limits) == ask_reference([stream], limits)


READS = """
import socket, sys
from pathlib import Path
from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from fastscp._ext.wire import Wire
from reference.driving import Limits, native_reader

own, peer = socket.socketpair()
peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
reader = native_reader(BufferPool(1 << 26), Limits())
wire = Wire(own.fileno(), reader, wake_fd=-1, progress_bytes=1, progress_s=60.0)
peer.sendall(Path(sys.argv[1]).read_bytes())
assert wire.receive(60.0) == pdu.STORE
"""


def test_many_pdus_are_one_read(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        assert os.environ.get("CI") != "true", "strace is not installed"
        pytest.skip("strace is not installed")
    stream = COMMAND + regular(traffic.data_set(pixels=bytes(500_000)))
    (tmp_path / "stream").write_bytes(stream)
    calls = tmp_path / "calls"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [strace, "-f", "-o", str(calls), "-e", "trace=recvmsg", sys.executable, "-c", READS, str(tmp_path / "stream")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode and "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    assert 3 <= calls.read_text().count("recvmsg(") < 25  # of 102 PDUs


def test_what_comes_afterwards_is_received_too() -> None:
    stream = FRONT + AFTER["a shorter last, then another instance"]
    echo = traffic.echo(MESSAGE_CONTEXT_ID)
    assert ask_wire([stream, echo, stream], Limits()) == ask_reference([stream + echo + stream])
