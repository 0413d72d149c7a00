"""PDUs that are read together against the reference, which takes them one by one.

Enters: drawn conversations, mostly in PDUs of one length, whole and damaged, spilled and not. Leaves: equal transcripts. Never: a wait.
"""

import struct

from hypothesis import given
from hypothesis import strategies as st

from reference import traffic
from reference.driving import CONTEXTS, Limits, ask_reference, pieces
from reference.lookahead import ask_wire
from reference.reference_dimse import encode_store_request
from reference.reference_part10 import syntax_of
from reference.strategies import LENGTH_BOMBS, control_pdus, conversations, damaged, other_messages, store_context_ids

HEADERS_BYTES = 12
PIECE_BYTES = 500_000
limits = st.builds(
    Limits,
    max_instance_bytes=st.sampled_from([1 << 32, 1 << 32, 1 << 32, 1000, 20_000, 70_000]),
    spill_threshold_bytes=st.sampled_from([1 << 30, 1 << 30, 1, 5000, 65_536, 100_000]),
)
cuts = st.lists(st.integers(0, 1 << 17), max_size=6)


@st.composite
def regular_stores(draw: st.DrawFn) -> bytes:
    """An instance in PDUs of one length, of which some may be another's."""
    context_id = draw(store_context_ids)
    syntax = syntax_of(CONTEXTS[context_id])
    pdv_bytes = draw(st.sampled_from([1, 2, 17, 100, 1000, 1000, 4000, 4000, 16_000, 30_000]))
    pixels = b"".join(struct.pack("<L", number) for number in range(draw(st.integers(0, 30 * pdv_bytes)) // 4))
    data = traffic.data_set(pixels=pixels, explicit_vr=syntax.explicit_vr, little_endian=syntax.little_endian)
    sizes = [pdv_bytes] * (len(data) // pdv_bytes)
    for at, size in draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2 * pdv_bytes)), max_size=3)):
        sizes[at : at + 1] = [size]
    pdvs = traffic.fragments(context_id, data, sizes, command=False, zero_last=draw(st.integers(0, 9)) == 0)
    together = [1] * len(pdvs)
    for at in draw(st.lists(st.integers(0, 30), max_size=2)):
        together[at : at + 1] = [2]
    command = encode_store_request(message_id=draw(st.integers(0, 0xFFFF)))
    return traffic.p_data(traffic.pdv(context_id, command, command=True, last=True)) + traffic.packed(pdvs, together)


others = st.one_of(other_messages().map(lambda pdvs: traffic.packed(pdvs, [])), control_pdus)
regular_conversations = st.lists(st.one_of(regular_stores(), regular_stores(), regular_stores(), others), min_size=1, max_size=4).map(
    b"".join
)


@st.composite
def damaged_headers(draw: st.DrawFn) -> bytes:
    """Damage where it is found: in what says what the bytes behind it are."""
    data = bytearray(draw(regular_conversations))
    starts, at = [], 0
    while at + HEADERS_BYTES <= len(data):
        starts.append(at)
        at += 6 + struct.unpack_from(">L", data, at + 2)[0]
    # From the back, so that those before stay where they are.
    for start in sorted(draw(st.sets(st.sampled_from(starts), min_size=1, max_size=3)) if starts else [], reverse=True):
        what = draw(st.sampled_from(["byte", "bit", "type", "length", "item", "insert", "delete", "abort"]))
        if what == "byte":
            data[start + draw(st.integers(0, HEADERS_BYTES - 1))] = draw(st.integers(0, 255))
        elif what == "bit":
            data[start + draw(st.integers(0, HEADERS_BYTES - 1))] ^= 1 << draw(st.integers(0, 7))
        elif what == "type":
            data[start] = draw(st.integers(0, 8))
        elif what in ("length", "item"):
            struct.pack_into(">L", data, start + (2 if what == "length" else 6), draw(st.sampled_from(LENGTH_BOMBS)))
        elif what == "insert":
            data[start:start] = draw(st.binary(min_size=1, max_size=40))
        elif what == "delete":
            del data[start : start + draw(st.integers(1, 40))]
        else:
            data[start:start] = traffic.ABORT
    return bytes(data)


@given(regular_conversations, cuts, limits)
def test_read_together_or_one_by_one(stream: bytes, at: list[int], limits: Limits) -> None:
    assert ask_wire(pieces(stream, [*at, *range(0, len(stream), PIECE_BYTES)]), limits) == ask_reference([stream], limits)


@given(st.one_of(damaged_headers(), damaged_headers(), damaged(regular_conversations)), cuts, limits)
def test_damage_is_found_at_the_same_place(stream: bytes, at: list[int], limits: Limits) -> None:
    assert ask_wire(pieces(stream, [*at, *range(0, len(stream), PIECE_BYTES)]), limits) == ask_reference([stream], limits)


@given(conversations(), cuts, limits)
def test_traffic_of_all_kinds(stream: bytes, at: list[int], limits: Limits) -> None:
    assert ask_wire(pieces(stream, [*at, *range(0, len(stream), PIECE_BYTES)]), limits) == ask_reference([stream], limits)
