"""What is committed natively is what would have been committed by hand.

Enters: drawn traffic, in arbitrary cuts. Leaves: the same answers, events, files and counts either way. Never: a wait.
"""

import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from fastscp._ext.wire import Wire
from fastscp.observe.metrics import Metrics
from fastscp.receive import Intake
from fastscp.stores.file import FileStore
from reference import traffic
from reference.driving import CONTEXTS, SOURCE_AE_TITLE, Limits, Line, native_reader, pieces
from reference.reference_dimse import encode_store_request
from reference.reference_part10 import syntax_of
from reference.serving import NOT_ORDINARY, arrived_so_far, ordinary
from reference.strategies import command_pdvs, conversations, cuts, damaged, data_set_pdvs, store_context_ids

PIECE_BYTES = 30_000
LIMITS = Limits(max_instance_bytes=60_000, spill_threshold_bytes=20_000)


@st.composite
def ordinary_stores(draw: st.DrawFn) -> list[bytes]:
    """An instance with nothing unusual about it, but that there may have been one of its name."""
    context_id = draw(store_context_ids)
    syntax = syntax_of(CONTEXTS[context_id])
    uid = f"1.2.3.4.{draw(st.integers(0, 5))}"
    data = traffic.data_set(
        sop_instance_uid=uid,
        series_instance_uid=draw(st.sampled_from(["1.2.3.1", "1.2.3.2"])),
        pixels=bytes(draw(st.sampled_from([0, 0, 4, 4, 1000, 10_000, 30_000, 70_000]))),
        explicit_vr=syntax.explicit_vr,
        little_endian=syntax.little_endian,
    )
    command = encode_store_request(message_id=draw(st.integers(0, 0xFFFF)), sop_instance_uid=uid)
    return draw(command_pdvs(context_id, command)) + draw(data_set_pdvs(context_id, data))


traffic_of_all_kinds = conversations(8, min_messages=3, usual=ordinary_stores())


@dataclass
class Outcome:
    """Everything that somebody outside can see."""

    answers: bytes = b""
    lines: list[Line] = field(default_factory=list)
    """Events that are no instances, each with how many instances were answered before it."""
    files: dict[str, bytes] = field(default_factory=dict)
    counts: list[str] = field(default_factory=list)


class Receiver:
    """An association's reader, wire, intake and file store, without the association."""

    def __init__(self, root: Path, *, natively: bool, replace: bool) -> None:
        self.own, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.root = root
        self.pool = BufferPool(1 << 24)
        self.reader: Any = native_reader(self.pool, LIMITS)
        # No time for anything: whoever would wait comes back at once.
        self.wire = Wire(self.own.fileno(), self.reader, wake_fd=-1, progress_bytes=1, progress_s=0.0)
        self.store = FileStore(root, fsync=False, replace=replace)
        self.metrics = Metrics("test")
        sender = self.metrics.sender(SOURCE_AE_TITLE)
        self.intake = Intake(self.store, self.metrics, sender, frozenset(), "test")
        if natively:
            self.wire.commit_with(self.store.committer, self.metrics.stored_tally, sender)
        self.by_hand_count = 0
        self.outcome = Outcome()

    def note(self, *words: Any) -> None:
        self.outcome.lines.append((self.by_hand_count + self.wire.committed[0], *words))

    def serve(self) -> bool:
        """One event. Returns False where nothing more comes of what has arrived."""
        event = self.wire.serve(0.0)
        if event == pdu.STORE:
            instance = self.reader.take_instance()
            self.wire.queue_store_response(instance, *self.intake.store(instance))
            self.by_hand_count += 1
        elif event == pdu.SPILL:
            if not self.intake.spill(self.reader.instance):
                self.reader.discard()
        elif event == pdu.MESSAGE:
            self.note("message", *self.reader.take_message())
        elif event == pdu.CONTROL:
            self.note("control", self.reader.take_control_pdu())
        else:
            assert event in (pdu.TIMEOUT_IDLE, pdu.TIMEOUT_STALLED, pdu.PROTOCOL_ERROR)
            if event == pdu.PROTOCOL_ERROR:
                self.note("error", self.reader.abort_reason)
            return False
        return True

    def receive(self, stream: list[bytes]) -> Outcome:
        try:
            for piece in stream:
                self.peer.sendall(piece)
                while self.serve():
                    pass
                self.outcome.answers += arrived_so_far(self.peer)
                if self.reader.error_text:
                    break
            self.note("end", self.reader.mid_message)
        finally:
            self.close()
        self.outcome.files = {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}
        told = generate_latest(self.metrics.registry).decode().splitlines()
        self.outcome.counts = [line for line in told if "_seconds_" not in line and "_created" not in line]
        self.outcome.counts += [line for line in told if line.startswith(("fastscp_store_seconds_count", "fastscp_answer_seconds_count"))]
        return self.outcome

    def close(self) -> None:
        self.intake.abandon()
        self.reader.close()
        self.own.close()
        self.peer.close()
        self.store.close()
        assert self.pool.in_use_bytes == 0


def both_ways(stream: list[bytes], *, replace: bool) -> tuple[Receiver, Receiver]:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        native, by_hand = (Receiver(Path(root), natively=root == first, replace=replace) for root in (first, second))
        assert native.receive(stream) == by_hand.receive(stream)
    assert by_hand.wire.committed == (0, 0)
    return native, by_hand


@given(st.one_of(traffic_of_all_kinds, traffic_of_all_kinds, damaged(traffic_of_all_kinds)), cuts, st.booleans())
@example(b"".join(ordinary(number).stream for number in range(5)), [1, 100, 200], True)
def test_either_way_gives_the_same(stream: bytes, at: list[int], replace: bool) -> None:
    both_ways(pieces(stream, [*at, *range(0, len(stream), PIECE_BYTES)]), replace=replace)


def test_every_kind_of_instance_gives_the_same() -> None:
    """In one stream, with ordinary ones between; and it tells the ways apart."""
    kinds = [stream for name, (stream, _) in NOT_ORDINARY.items() if name != "a deflated data set"]
    stream = b"".join(ordinary(number).stream + kind for number, kind in enumerate(kinds))
    stream += b"".join(ordinary(number, bytes(size)).stream for number, size in enumerate((30_000, 30_000, 70_000)))
    for replace in (False, True):
        native, by_hand = both_ways(pieces(stream, range(0, len(stream), 1000)), replace=replace)
        assert native.wire.committed[0] == len(kinds)
        assert by_hand.by_hand_count == native.by_hand_count + len(kinds) == 2 * len(kinds) + 3


def test_bytes_that_arrive_alone_give_the_same() -> None:
    stream = ordinary(1, b"1234").stream + traffic.echo(255) + ordinary(2).stream + traffic.RELEASE_RQ
    native, _ = both_ways([stream[at : at + 1] for at in range(len(stream))], replace=True)
    assert native.wire.committed[0] == 2
