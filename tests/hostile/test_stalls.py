"""Peers that stop, at every stage, and peers that are merely slow.

Enters: silence. Leaves: freed threads, slots, memory and files. Never: a deadline that a steady peer misses.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import PIXEL_DATA, element, make
from tests.peers.encoding import Context
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, wait_until

pytestmark = pytest.mark.requires_linux  # what is held is counted in /proc

CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION)]
REQUEST = enc.associate_rq(CONTEXTS)
_MADE = make(pixel_bytes=50_000)
_MESSAGE = list(enc.message_pdus(1, enc.store_command(_MADE.sop_class, _MADE.sop_instance), _MADE.data_set))


def drip(scu: RawScu, data: bytes) -> None:
    """One byte after another from a thread of its own, until the receiver has had enough."""

    def run() -> None:
        try:
            scu.send_slowly(data, 1, 0.2)
        except OSError:
            return

    threading.Thread(target=run, daemon=True).start()


def associated(then: Callable[[RawScu], None]) -> Callable[[RawScu], None]:
    def stage(scu: RawScu) -> None:
        scu.associate(CONTEXTS)
        then(scu)

    return stage


def spilling(scu: RawScu) -> None:
    """Stop after more of an instance than is kept in memory."""
    head = _MADE.data_set[: _MADE.data_set.index(struct.pack("<HH", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF))]
    scu.send(_MESSAGE[0])
    data = head + element(PIXEL_DATA, "OW", b"", length=64 * 2**20)
    for _ in range(300):
        scu.send(enc.pdu(enc.P_DATA, enc.pdv(1, data, command=False, last=False)))
        data = bytes(131_060)


def drip_data_set(scu: RawScu) -> None:
    scu.send(_MESSAGE[0])
    drip(scu, _MESSAGE[1])


def release_and_stay(scu: RawScu) -> None:
    scu.send(enc.RELEASE_RQ_PDU)
    scu.expect(enc.RELEASE_RP)


def echo(scu: RawScu) -> None:
    assert scu.echo(3).status == 0


STAGES: dict[str, Callable[[RawScu], None]] = {
    "no byte at all": lambda scu: None,
    "one byte": lambda scu: scu.send(REQUEST[:1]),
    "half a request": lambda scu: scu.send(REQUEST[:90]),
    "a request that drips": lambda scu: drip(scu, REQUEST),
    "silence after the association": associated(lambda scu: None),
    "silence after a message": associated(echo),
    "inside a PDU header": associated(lambda scu: scu.send(_MESSAGE[0][:4])),
    "inside the command": associated(lambda scu: scu.send(_MESSAGE[0][:50])),
    "after the command": associated(lambda scu: scu.send(_MESSAGE[0])),
    "inside a PDV": associated(lambda scu: scu.send(_MESSAGE[0] + _MESSAGE[1][:1000])),
    "between two PDUs of a message": associated(lambda scu: scu.send(_MESSAGE[0] + _MESSAGE[1])),
    "inside an instance that went to a file": associated(spilling),
    "a command that drips": associated(lambda scu: drip(scu, _MESSAGE[0])),
    "a data set that drips": associated(drip_data_set),
    "inside a release request": associated(lambda scu: scu.send(enc.RELEASE_RQ_PDU[:8])),
    "after the release response": associated(release_and_stay),
    "after an abort": associated(lambda scu: scu.send(enc.ABORT_PDU)),
    "after a rejection": lambda scu: scu.send(enc.associate_rq(CONTEXTS, protocol_version=2)),
}


@pytest.fixture(scope="module")
def stalled(_impatient: tuple[FastScp, object]) -> Iterator[dict[str, RawScu]]:
    """A connection that has stopped at each stage, all at the same time, so that their deadlines pass together."""
    peers = {}
    for stage, reach in STAGES.items():
        peers[stage] = RawScu(_impatient[0].port)
        reach(peers[stage])
    yield peers
    for scu in peers.values():
        scu.close()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stalled_connection_is_closed(stalled: dict[str, RawScu], stage: str) -> None:
    seen = stalled[stage].wait_closed(stay=True)
    assert {kind for kind, _ in seen} <= {enc.ABORT, enc.ASSOCIATE_RJ}


def test_nothing_of_the_stalled_is_left(stalled: dict[str, RawScu], impatient: FastScp) -> None:
    """The fixture compares threads, descriptors, slots, memory and files with those at rest."""
    for scu in stalled.values():
        scu.wait_closed(stay=True)
    wait_until(lambda: impatient.metric("fastscp_associations_active") == 0, "no association is left")
    assert not (impatient.store / _MADE.relative_path).exists()


def test_a_connection_without_a_byte_is_not_logged(stalled: dict[str, RawScu], impatient: FastScp) -> None:
    stalled["no byte at all"].wait_closed(stay=True)
    with RawScu(impatient.port) as silent:
        records = len(impatient.records)
        silent.wait_closed(stay=True)
        assert impatient.records[records:] == []


def test_a_slow_but_steady_instance_is_stored(impatient: FastScp) -> None:
    """It takes more than twice as long as any deadline here."""
    made = make(pixel_bytes=60_000)
    message = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))
    with RawScu(impatient.port) as scu:
        scu.associate(CONTEXTS)
        start = time.monotonic()
        scu.send_slowly(message, 2_500, 0.2)
        assert time.monotonic() - start > 4
        assert scu.read_response().status == 0
        scu.release()
    assert (impatient.store / made.relative_path).exists()


def test_a_peer_that_reads_no_answers_is_left(impatient: FastScp) -> None:
    """Answers pile up in the socket until sending stalls; the receiver must neither block for ever nor buffer them."""
    with RawScu(impatient.port, receive_buffer_bytes=4096) as scu:
        scu.associate(CONTEXTS)
        # A data set that is refused: the longest answer for the least work.
        refused = enc.message_pdus(1, enc.store_command(enc.CT_IMAGE, "1." + "2" * 62), b"nothing of sense")
        request = b"".join(refused) * 50
        with pytest.raises(OSError):  # noqa: PT012 - the receiver stops reading, then closes; where that shows is its choice
            for _ in range(20_000):
                scu.send(request)
