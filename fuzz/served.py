"""A reader's input through `Wire.serve`, which commits ordinary instances to nowhere, and what must have come of it.

Enters: a peer's bytes, cut into pieces. Leaves: a transcript of what was not committed, and every trace of what was. Never: a wait.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

from fastscp._ext import pdu
from fastscp._ext.committer import NullCommitter
from fastscp._ext.tally import Sender, StoredTally
from fastscp._ext.wire import Wire
from reference import traffic
from reference.driving import Limits, Line, NoProgress, Spill, native_reader, store_line
from reference.reference_dimse import encode_store_response_command
from reference.serving import arrived_so_far

PIECE_BYTES = 30_000
NO_PROGRESS_CEILING = 1000
CONFORMANT = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*").fullmatch


class Served:
    """Serves a stream in the place of an association. See `driving.ask_native` for the arguments."""

    def __init__(self, limits: Limits, *, established: bool, pool: Any, spill: Spill, watch: Callable[[Any], None]) -> None:
        self.reader = native_reader(pool, limits, established=established)
        self.spill, self.watch = spill, watch
        self.lines: list[Line] = []
        self.not_committed: list[Line] = []
        """Ordinary instances that were a STORE although no other event came of them."""
        self.answers = b""
        self._asked = False
        self._tally, self._sender = StoredTally([0.001]), Sender()
        self._own, self._peer = socket.socketpair()
        self._peer.setblocking(False)
        # No time for anything: whoever would wait comes back at once.
        self._wire = Wire(self._own.fileno(), self.reader, wake_fd=-1, progress_bytes=1, progress_s=0.0)
        self._wire.commit_with(NullCommitter(), self._tally, self._sender)

    def serve(self, stream: Sequence[bytes]) -> None:
        try:
            for piece in stream:
                for start in range(0, len(piece), PIECE_BYTES):
                    self._peer.sendall(piece[start : start + PIECE_BYTES])
                    self._take_all()
                    self.answers += arrived_so_far(self._peer)
                    if self.reader.error_text:
                        return
            self.lines.append(("end", self.reader.mid_message))
        finally:
            self.reader.close()
            self._own.close()
            self._peer.close()

    def counts(self) -> set[tuple[int, int]]:
        """(instances, bytes of data set) by everything that counts them; one, where they agree."""
        buckets, dataset_bytes, _ = self._tally.snapshot()
        return {self._wire.committed, (sum(buckets), dataset_bytes), (self._sender.instance_count, self._sender.dataset_bytes)}

    def _take_all(self) -> None:
        for _ in range(NO_PROGRESS_CEILING):
            event = self._wire.serve(0.0)
            self.watch(self.reader)
            if event in (pdu.TIMEOUT_IDLE, pdu.TIMEOUT_STALLED):
                return
            if event == pdu.PROTOCOL_ERROR:
                self.lines.append(("error", self.reader.abort_reason))
                return
            self._take(event)
        raise NoProgress(event)

    def _take(self, event: int) -> None:
        reader, spill = self.reader, self.spill
        if event == pdu.STORE:
            instance = reader.take_instance()
            self.lines.append(store_line(instance, bytes(spill.stored) + b"".join(instance.segments())))
            if instance.ordinary_name() is not None and not self._asked:
                self.not_committed.append(self.lines[-1])
            instance.release()
            spill.stored.clear()
            self._asked = False
        elif event == pdu.MESSAGE:
            self.lines.append(("message", *reader.take_message()))
        elif event == pdu.CONTROL:
            self.lines.append(("control", reader.take_control_pdu()))
        elif event in (pdu.SPILL, pdu.NO_MEMORY):
            self._asked = True
            spill(reader.instance, reader, no_memory=event == pdu.NO_MEMORY)
        else:
            raise AssertionError(f"serve returned {event}")


def is_ordinary(line: Line) -> bool:
    """Whether the reference finds nothing unusual about an instance."""
    if line[0] != "store" or line[6] is not None:
        return False
    sop_class, sop_instance, study, series, _, state, _ = line[8]
    same = bool(sop_class) and (sop_class, sop_instance) == (line[3], line[4])
    return same and state == "complete" and all(uid and len(uid) <= 64 and CONFORMANT(uid) for uid in (study, series, sop_instance))


def without_committed(found: list[Line], expected: list[Line], same: Callable[[Line, Line], bool]) -> tuple[list[Line], list[Line]]:
    """What is expected, in two: the lines that must be told, and those of instances that were committed instead."""
    told, committed = [], []
    for line in expected:
        at = len(told)
        if is_ordinary(line) and not (at < len(found) and same(found[at], line)):
            committed.append(line)
        else:
            told.append(line)
    return told, committed


def success(line: Line) -> bytes:
    """The answer to an instance that was committed."""
    command = encode_store_response_command(message_id=line[2], sop_class_uid=line[3], sop_instance_uid=line[4], status=0x0000)
    return traffic.p_data(traffic.pdv(line[1], command, command=True, last=True))
