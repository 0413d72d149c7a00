"""MessageReader against the reference: any bytes, in any cuts, spilled and discarded at any time.

Enters: drawn traffic, whole and damaged. Leaves: equal transcripts. Never: an expectation on how many SPILL events there are.
"""

import os
import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastscp._ext.memory import SEGMENT_SIZES_BYTES, BufferPool
from reference import traffic
from reference.driving import CONTEXTS, Limits, Spill, ask_native, ask_reference, native_reader, pieces
from reference.reference_part10 import syntax_of
from reference.strategies import control_pdus, conversations, cuts, damaged, data_set_pdvs, large_data_sets, store_context_ids, stores

LARGEST_BYTES = SEGMENT_SIZES_BYTES[-1]


def ask(stream: list[bytes], limits: Limits = Limits(), *, established: bool = True) -> list[Any]:  # noqa: B008
    """The native transcript, with the memory checked at every step."""
    pool = BufferPool(1 << 26)
    ceiling_bytes = 2 * (sum(map(len, stream)) + 4096) + LARGEST_BYTES

    def watch(reader: object) -> None:
        assert pool.in_use_bytes <= ceiling_bytes

    lines = ask_native(stream, limits, established=established, pool=pool, watch=watch)
    assert pool.in_use_bytes == 0
    return lines


@given(conversations(), cuts)
def test_any_cut_gives_the_same_events(stream: bytes, where: list[int]) -> None:
    expected = ask_reference([stream])
    assert expected[-1] == ("end", False)
    assert ask([stream]) == expected
    assert ask(pieces(stream, where)) == expected
    assert ask_reference(pieces(stream, where)) == expected


@given(conversations(max_messages=2))
def test_one_byte_at_a_time_gives_the_same_events(stream: bytes) -> None:
    assert ask(pieces(stream, range(len(stream)))) == ask_reference([stream])


@given(st.one_of(damaged(conversations()), conversations(control_inside=True)), cuts)
def test_damage_gives_the_same_events_or_the_same_error(stream: bytes, where: list[int]) -> None:
    expected = ask_reference([stream])
    assert ask([stream]) == expected
    assert ask(pieces(stream, where)) == expected


@given(damaged(st.lists(control_pdus, min_size=1, max_size=3).map(b"".join)), cuts)
def test_damage_before_the_association_is_established(stream: bytes, where: list[int]) -> None:
    expected = ask_reference([stream], established=False)
    assert ask([stream], established=False) == expected
    assert ask(pieces(stream, where), established=False) == expected


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda body: b"\x04" + body)), st.booleans())
def test_noise(stream: bytes, established: bool) -> None:
    assert ask([stream], established=established) == ask_reference([stream], established=established)


@given(st.lists(stores(), min_size=1, max_size=3), st.integers(0, 200), st.integers(6, 400))
def test_instances_over_the_ceiling_are_counted_and_discarded(messages: list[list[bytes]], ceiling_bytes: int, max_pdu_bytes: int) -> None:
    stream = traffic.packed([item for message in messages for item in message], [])
    limits = Limits(max_instance_bytes=ceiling_bytes, max_pdu_bytes=max_pdu_bytes)
    assert ask([stream], limits) == ask_reference([stream], limits)


class DrawnSpill(Spill):
    """At each SPILL does what was drawn: through views, through a descriptor, nothing, or the end of the instance."""

    def __init__(self, actions: list[str]) -> None:
        super().__init__()
        self.actions = iter(actions)

    def __call__(self, instance: Any, reader: Any, *, no_memory: bool) -> None:
        action = "views" if no_memory else next(self.actions, "views")
        assert instance.refusal is None
        assert instance.file_bytes == instance.file_meta_bytes + instance.dataset_bytes
        if action == "views":
            count_bytes = self.spill(instance)
        elif action == "descriptor":
            count_bytes = self.write(instance)
        elif action == "discard":
            count_bytes = 0
            self.discard(reader)
        else:
            return
        if no_memory and count_bytes == 0:
            self.discard(reader)

    def write(self, instance: Any) -> int:
        with tempfile.TemporaryFile() as file:
            expected_bytes = instance.spillable_bytes()
            count_bytes = instance.write_spillable(file.fileno())
            assert count_bytes == expected_bytes
            written = os.pread(file.fileno(), count_bytes + 1, 0)
        assert len(written) == count_bytes
        self.stored += written
        return count_bytes


@st.composite
def large_stores(draw: st.DrawFn) -> bytes:
    context_id = draw(store_context_ids)
    syntax = syntax_of(CONTEXTS[context_id])
    data = draw(large_data_sets(syntax.explicit_vr, syntax.little_endian))
    command = traffic.fragments(context_id, traffic.encode_store_request(message_id=9), [], command=True)
    return traffic.packed(command + draw(data_set_pdvs(context_id, data)), [])


actions = st.lists(st.sampled_from(["views", "views", "descriptor", "descriptor", "wait", "discard"]), max_size=20)


@given(st.lists(large_stores(), min_size=1, max_size=2), st.integers(1, 1 << 20), actions, st.lists(st.integers(0, 1 << 21), max_size=12))
def test_spilling_at_any_time_leaves_the_same_file(messages: list[bytes], threshold_bytes: int, what: list[str], where: list[int]) -> None:
    stream = b"".join(messages)
    pool = BufferPool(1 << 26)
    lines = ask_native(pieces(stream, where), Limits(spill_threshold_bytes=threshold_bytes), pool=pool, spill=DrawnSpill(what))
    expected = ask_reference([stream])
    assert pool.in_use_bytes == 0
    assert len(lines) == len(expected)
    for line, full in zip(lines, expected, strict=True):
        if line[0] == "store" and line[6] == "no_memory":
            assert "discard" in what
            assert (*line[:6], *line[7:8]) == (*full[:6], *full[7:8])
            assert line[8:] == (None, None)
        else:
            assert line == full


@given(large_stores(), st.integers(1, 1 << 18))
def test_spilling_at_once_bounds_the_memory(stream: bytes, threshold_bytes: int) -> None:
    pool = BufferPool(1 << 26)

    def watch(reader: Any) -> None:
        # The threshold, the segment that is being filled, and one that does not reach behind the head's scan.
        assert pool.in_use_bytes <= threshold_bytes + 3 * LARGEST_BYTES

    lines = ask_native([stream], Limits(spill_threshold_bytes=threshold_bytes), pool=pool, watch=watch)
    assert lines == ask_reference([stream])
    assert pool.in_use_bytes == 0


@given(st.lists(large_stores(), min_size=1, max_size=4), st.integers(LARGEST_BYTES, 3 * LARGEST_BYTES), st.integers(0, 2))
def test_without_memory_an_instance_is_spilled_or_refused_and_the_next_goes_on(messages: list[bytes], limit_bytes: int, held: int) -> None:
    pool = BufferPool(limit_bytes)
    hostages = hold(pool, held)
    held_bytes = pool.in_use_bytes

    def watch(reader: Any) -> None:
        assert pool.in_use_bytes <= limit_bytes

    stream = b"".join(messages)
    lines = ask_native([stream], pool=pool, watch=watch)
    expected = ask_reference([stream])
    assert pool.in_use_bytes == held_bytes
    for line, full in zip(lines, expected, strict=True):
        if line[0] == "store" and line[6] == "no_memory":
            assert (*line[:6], *line[7:8]) == (*full[:6], *full[7:8])
        else:
            assert line == full
    for hostage in hostages:
        hostage.release()
    assert pool.in_use_bytes == 0


def hold(pool: BufferPool, count: int) -> list[Any]:
    """Instances that keep a segment each."""
    reader = native_reader(pool)
    taken = []
    for _ in range(count):
        reader.feed(traffic.store(1, traffic.data_set()))
        taken.append(reader.take_instance())
    return taken


@given(large_stores(), st.integers(0, 1 << 21), st.integers(1, 1 << 20))
def test_a_reader_dropped_in_the_middle_gives_everything_back(stream: bytes, end: int, threshold_bytes: int) -> None:
    pool = BufferPool(1 << 26)
    ask_native([stream[:end]], Limits(spill_threshold_bytes=threshold_bytes), pool=pool)
    assert pool.in_use_bytes == 0
