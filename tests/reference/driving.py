"""The same conversation with the native reader and with the reference, written down in the same words.

Enters: a peer's bytes, cut into pieces. Leaves: a transcript of what came out. Never: compares, or loops for ever.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reference import reference_pdu
from reference.reference_part10 import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

Line = tuple[Any, ...]

IMPLEMENTATION = {"implementation_class_uid": "1.2.826.0.1.3680043.10.1", "implementation_version_name": "FASTSCP_TEST"}
CONTEXTS = {
    1: EXPLICIT_VR_LITTLE_ENDIAN,
    3: IMPLICIT_VR_LITTLE_ENDIAN,
    5: EXPLICIT_VR_BIG_ENDIAN,
    7: "1.2.840.10008.1.2.4.50",
    255: IMPLICIT_VR_LITTLE_ENDIAN,
}
STORE_CONTEXT_IDS = frozenset({1, 3, 5, 7})
MESSAGE_CONTEXT_ID = 255
SOURCE_AE_TITLE = "STORESCU"
NO_PROGRESS_CEILING = 100


@dataclass(frozen=True)
class Limits:
    max_pdu_bytes: int = 16384
    max_instance_bytes: int = 1 << 32
    spill_threshold_bytes: int = 1 << 30


class NoProgress(AssertionError):
    """The reader neither took bytes nor came to an end."""


def head_line(head: Any) -> Line:
    """What of a head is comparable. Where a data set ended too early is not told apart."""
    return (
        head.sop_class_uid,
        head.sop_instance_uid,
        head.study_instance_uid,
        head.series_instance_uid,
        head.study_date,
        head.state,
        head.error_offset if head.state == "malformed" else None,
    )


def store_line(instance: Any, file: bytes | None) -> Line:
    kept = instance.refusal is None
    return (
        "store",
        instance.context_id,
        instance.message_id,
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax_uid,
        instance.refusal,
        instance.dataset_bytes,
        head_line(instance.head) if kept and not instance.deflated else None,
        file if kept else None,
    )


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` cut at the given offsets, which may be in any order and beyond the end."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def ask_reference(stream: Sequence[bytes], limits: Limits = Limits(), *, established: bool = True) -> list[Line]:
    reader = reference_pdu.MessageReader(
        max_pdu_bytes=limits.max_pdu_bytes,
        max_instance_bytes=limits.max_instance_bytes,
        spill_threshold_bytes=limits.spill_threshold_bytes,
        **IMPLEMENTATION,
    )
    if established:
        reader.establish(CONTEXTS, STORE_CONTEXT_IDS, SOURCE_AE_TITLE)
    lines: list[Line] = []
    for piece in stream:
        rest = piece
        while rest:
            event, consumed = reader.feed(rest)
            rest = rest[consumed:]
            if event == reference_pdu.STORE:
                instance = reader.take_instance()
                lines.append(store_line(instance, instance.file()))
            elif event == reference_pdu.MESSAGE:
                lines.append(("message", *reader.take_message()))
            elif event == reference_pdu.CONTROL:
                lines.append(("control", reader.take_control_pdu()))
            elif event == reference_pdu.PROTOCOL_ERROR:
                lines.append(("error", reader.abort_reason))
                return lines
    lines.append(("end", reader.mid_message))
    return lines


class Spill:
    """What to do at SPILL and NO_MEMORY. Holds what has left memory of the instance under way."""

    def __init__(self) -> None:
        self.stored = bytearray()

    def __call__(self, instance: Any, reader: Any, *, no_memory: bool) -> None:
        """Spill all that can be; with no memory and nothing to spill, give up the instance."""
        if self.spill(instance) == 0 and no_memory:
            self.discard(reader)

    def spill(self, instance: Any) -> int:
        views = instance.spillable_segments()
        count_bytes = sum(len(view) for view in views)
        assert count_bytes == instance.spillable_bytes()
        for view in views:
            self.stored += view
            view.release()
        if count_bytes:
            instance.drop_spillable(count_bytes)
        assert instance.spilled_bytes == len(self.stored)
        return count_bytes

    def discard(self, reader: Any) -> None:
        self.stored.clear()
        reader.discard()


def native_reader(pool: Any, limits: Limits = Limits(), *, established: bool = True) -> Any:
    from fastscp._ext.pdu import MessageReader

    reader = MessageReader(
        pool,
        max_pdu_bytes=limits.max_pdu_bytes,
        max_instance_bytes=limits.max_instance_bytes,
        spill_threshold_bytes=limits.spill_threshold_bytes,
        **IMPLEMENTATION,
    )
    if established:
        reader.establish(CONTEXTS, STORE_CONTEXT_IDS, SOURCE_AE_TITLE)
    return reader


def ask_native(
    stream: Sequence[bytes],
    limits: Limits = Limits(),
    *,
    established: bool = True,
    pool: Any = None,
    spill: Spill | None = None,
    watch: Callable[[Any], None] = lambda reader: None,
) -> list[Line]:
    """Args: watch: called after every `feed`."""
    from fastscp._ext import pdu
    from fastscp._ext.memory import BufferPool

    reader = native_reader(pool if pool is not None else BufferPool(1 << 30), limits, established=established)
    spill = spill or Spill()
    lines: list[Line] = []
    taken_bytes = 0
    for piece in stream:
        rest = memoryview(piece)
        stuck = 0
        event = None
        # An event may be complete with bytes that were taken in together with the one before.
        while event != pdu.NEED_DATA:
            event, consumed = reader.feed(rest)
            watch(reader)
            rest = rest[consumed:]
            taken_bytes += consumed
            stuck = 0 if consumed else stuck + 1
            if stuck > NO_PROGRESS_CEILING:
                raise NoProgress(event)
            if event == pdu.NEED_DATA:
                assert not rest
            elif event == pdu.STORE:
                instance = reader.take_instance()
                lines.append(store_line(instance, bytes(spill.stored) + b"".join(instance.segments())))
                instance.release()
                spill.stored.clear()
            elif event == pdu.MESSAGE:
                lines.append(("message", *reader.take_message()))
            elif event == pdu.CONTROL:
                lines.append(("control", reader.take_control_pdu()))
            elif event in (pdu.SPILL, pdu.NO_MEMORY):
                spill(reader.instance, reader, no_memory=event == pdu.NO_MEMORY)
            elif event == pdu.PROTOCOL_ERROR:
                assert reader.error_text
                lines.append(("error", reader.abort_reason))
                assert reader.feed(b"\x04") == (pdu.PROTOCOL_ERROR, 0)
                return lines
            else:
                raise AssertionError(f"feed returned {event}")
    assert reader.received_bytes == taken_bytes
    lines.append(("end", reader.mid_message))
    return lines
