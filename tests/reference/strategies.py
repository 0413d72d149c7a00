"""What peers send, right and wrong, drawn by hypothesis.

Enters: draws. Leaves: bytes. Never: an example that needs more than a few megabytes.
"""

import itertools
import struct

from hypothesis import strategies as st

from reference import traffic
from reference.driving import CONTEXTS, STORE_CONTEXT_IDS
from reference.reference_dimse import encode_echo_request, encode_elements, encode_store_request
from reference.reference_part10 import syntax_of

UNDEFINED = 0xFFFFFFFF
ALL_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV ZZ".split()
LENGTH_BOMBS = (0, 1, 2, 3, 5, 0x7F, 0xFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

store_context_ids = st.sampled_from(sorted(STORE_CONTEXT_IDS))
context_ids = st.sampled_from(sorted(CONTEXTS))
cuts = st.lists(st.integers(0, 1 << 14), max_size=24)

# Not a regular expression, which hypothesis draws slowly.
uids = st.builds(
    lambda root, rest: ".".join(map(str, [root, *rest])), st.integers(0, 2), st.lists(st.integers(0, 1 << 30), min_size=1, max_size=5)
)
uid_texts = st.one_of(
    uids,
    st.text("0123456789.", max_size=70),
    st.text(st.characters(max_codepoint=255), max_size=8),
    st.sampled_from(["1.2.3 ", "1.2.3\0\0", " 1.2", "1." + "2" * 62, "1." + "2" * 63, "\0", ""]),
)


# Data sets.


@st.composite
def nested(draw: st.DrawFn, explicit_vr: bool, little_endian: bool, depth: int = 0) -> bytes:
    """One element, perhaps a sequence with items and delimiters of its own."""
    order = "<" if little_endian else ">"
    group = draw(st.sampled_from([0x0008, 0x0009, 0x0010, 0x0018, 0x0020]))
    number = draw(st.sampled_from([0x0005, 0x0016, 0x0018, 0x0020, 0x1000, 0x1115, 0x000D]))
    if depth > 3 or draw(st.integers(0, 3)):
        vr = draw(st.sampled_from(ALL_VRS))
        value = draw(st.binary(max_size=24))
        return traffic.element(group, number, vr, value, explicit_vr=explicit_vr, little_endian=little_endian)
    vr = draw(st.sampled_from([b"SQ", b"SQ", b"SQ", b"UN", b"OB", b"OW", b"UT"]))
    inner = (False, True) if explicit_vr and vr == b"UN" else (explicit_vr, little_endian)
    inner_order = "<" if inner[1] else ">"
    items = b""
    for _ in range(draw(st.integers(0, 3))):
        content = b"".join(draw(st.lists(nested(*inner, depth=depth + 1), max_size=3)))
        if draw(st.booleans()):
            items += struct.pack(inner_order + "HHL", 0xFFFE, 0xE000, len(content)) + content
        else:
            items += struct.pack(inner_order + "HHL", 0xFFFE, 0xE000, UNDEFINED) + content
            items += struct.pack(inner_order + "HHL", 0xFFFE, 0xE00D, 0)
    if draw(st.booleans()):
        return traffic.element(group, number, vr, items, explicit_vr=explicit_vr, little_endian=little_endian)
    header = struct.pack(order + "HH", group, number)
    header += vr + b"\0\0" + struct.pack(order + "L", UNDEFINED) if explicit_vr else struct.pack(order + "L", UNDEFINED)
    return header + items + struct.pack(inner_order + "HHL", 0xFFFE, 0xE0DD, 0)


@st.composite
def data_sets(draw: st.DrawFn, explicit_vr: bool, little_endian: bool) -> bytes:
    """A data set whose identifying elements have company before, between and after them, or are not all there."""

    def one(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        return traffic.element(group, number, vr, value, explicit_vr=explicit_vr, little_endian=little_endian)

    wanted = [
        one(0x0008, 0x0016, b"UI", draw(uid_texts).encode("latin-1")),
        one(0x0008, 0x0018, b"UI", draw(uid_texts).encode("latin-1")),
        one(0x0008, 0x0020, b"DA", draw(st.sampled_from([b"20240229", b"", b"2024 ", b"19990101\0", b"9" * 200]))),
        one(0x0020, 0x000D, b"UI", draw(uid_texts).encode("latin-1")),
        one(0x0020, 0x000E, b"UI", draw(uid_texts).encode("latin-1")),
    ]
    out = b""
    for identifying in wanted:
        out += b"".join(draw(st.lists(nested(explicit_vr, little_endian), max_size=2)))
        if draw(st.integers(0, 7)):
            out += identifying
    out += b"".join(draw(st.lists(nested(explicit_vr, little_endian), max_size=1)))
    if draw(st.integers(0, 3)):
        out += one(0x7FE0, 0x0010, b"OW", draw(st.binary(max_size=64)))
    return out


@st.composite
def large_data_sets(draw: st.DrawFn, explicit_vr: bool = True, little_endian: bool = True, ceiling_bytes: int = 1 << 21) -> bytes:
    """A data set over several segments, whose bytes tell their own place."""
    size = draw(st.integers(0, ceiling_bytes))
    pixels = b"".join(struct.pack("<Q", number) for number in range(size // 8))
    return traffic.data_set(pixels=pixels, explicit_vr=explicit_vr, little_endian=little_endian)


# Messages, as lists of PDVs.


@st.composite
def command_pdvs(draw: st.DrawFn, context_id: int, command: bytes) -> list[bytes]:
    sizes = draw(st.one_of(st.just([]), st.just([1] * len(command)), st.lists(st.integers(0, 40), max_size=8)))
    return traffic.fragments(context_id, command, sizes, command=True, zero_last=draw(st.integers(0, 5)) == 0)


@st.composite
def data_set_pdvs(draw: st.DrawFn, context_id: int, data: bytes) -> list[bytes]:
    one_each = st.just([1] * len(data)) if len(data) <= 400 else st.just([16378] * (len(data) // 16378))
    sizes = draw(st.one_of(st.just([]) if len(data) < 20000 else one_each, one_each, st.lists(st.integers(0, 5000), max_size=12)))
    if sum(sizes) + 60000 < len(data):
        sizes = [*sizes, *[30001] * (len(data) // 30001)]
    return traffic.fragments(context_id, data, sizes, command=False, zero_last=draw(st.integers(0, 3)) == 0)


@st.composite
def stores(draw: st.DrawFn) -> list[bytes]:
    context_id = draw(context_ids)
    syntax = syntax_of(CONTEXTS[context_id])
    data = draw(st.one_of(data_sets(syntax.explicit_vr, syntax.little_endian), st.binary(max_size=300)))
    command = encode_store_request(
        message_id=draw(st.integers(0, 0xFFFF)),
        sop_class_uid=draw(st.one_of(st.just(traffic.CT_IMAGE_STORAGE), uid_texts, st.none())),
        sop_instance_uid=draw(st.one_of(uid_texts, st.none())),
        has_data_set=draw(st.integers(0, 9)) != 0,
    )
    pdvs = draw(command_pdvs(context_id, command))
    if b"\x00\x08\x02\x00\x00\x00\x01\x01" not in command:
        pdvs = pdvs + draw(data_set_pdvs(context_id, data))
    return pdvs


@st.composite
def other_messages(draw: st.DrawFn) -> list[bytes]:
    context_id = draw(context_ids)
    if draw(st.booleans()):
        return draw(command_pdvs(context_id, encode_echo_request(draw(st.integers(0, 0xFFFF)))))
    has_data_set = draw(st.booleans())
    elements = {
        (0x0000, 0x0100): struct.pack("<H", draw(st.sampled_from([0x0020, 0x0021, 0x0130, 0x0140, 0x8001, 0x0FFF, 0x0000]))),
        (0x0000, 0x0110): struct.pack("<H", 7),
        (0x0000, 0x0800): struct.pack("<H", draw(st.sampled_from([0, 1, 0x0102])) if has_data_set else 0x0101),
    }
    for tag in draw(st.lists(st.sampled_from(sorted(elements)), max_size=1)):
        if tag != (0x0000, 0x0800):
            del elements[tag]
    pdvs = draw(command_pdvs(context_id, encode_elements(elements)))
    return pdvs + (draw(data_set_pdvs(context_id, draw(st.binary(max_size=300)))) if has_data_set else [])


control_pdus = st.one_of(
    st.sampled_from([traffic.RELEASE_RQ, traffic.RELEASE_RP, traffic.ABORT]),
    st.builds(traffic.pdu, st.sampled_from([1, 2, 3]), st.binary(max_size=80)),
)


@st.composite
def conversations(
    draw: st.DrawFn,
    max_messages: int = 4,
    *,
    min_messages: int = 0,
    control_inside: bool = False,
    usual: st.SearchStrategy[list[bytes]] | None = None,
) -> bytes:
    """Traffic after the association is established. PDUs may hold the end of one message and the start of the next.

    Args:
        control_inside: control PDUs may also stand inside a message, which no peer may do (PS3.8 section 9.3.1).
        usual: PDVs of most messages, instead of C-STORE-RQs with anything in them.
    """
    message = st.one_of(stores(), stores(), other_messages()) if usual is None else st.one_of(*[usual] * 5, stores(), other_messages())
    messages = draw(st.lists(message, min_size=min_messages, max_size=max_messages))
    pdvs = [item for message in messages for item in message]
    boundaries = {0, *itertools.accumulate(map(len, messages))}
    out = b""
    offset = 0
    while offset < len(pdvs):
        if (control_inside or offset in boundaries) and draw(st.integers(0, 30)) == 0:
            out += draw(control_pdus)
        count = draw(st.sampled_from([1, 1, 1, 2, 3, 40]))
        body = b"".join(pdvs[offset : offset + count])
        if len(body) > 65536:
            count = 1
            body = pdvs[offset]
        out += traffic.pdu(0x04, body)
        offset += count
    if draw(st.booleans()):
        out += draw(control_pdus)
    return out


# Damage.


@st.composite
def damaged(draw: st.DrawFn, intact: st.SearchStrategy[bytes]) -> bytes:
    data = bytearray(draw(intact))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["flip", "insert", "delete", "bomb", "byte", "truncate", "repeat"]))
        if what == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif what == "byte" and data:
            data[place] = draw(st.integers(0, 255))
        elif what == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=40))
        elif what == "delete":
            del data[place : place + draw(st.integers(1, 40))]
        elif what == "bomb":
            layout = draw(st.sampled_from(["<L", ">L", "<H", ">H"]))
            bomb = draw(st.sampled_from(LENGTH_BOMBS))
            data[place : place + struct.calcsize(layout)] = struct.pack(layout, bomb & (0xFFFFFFFF if layout[1] == "L" else 0xFFFF))
        elif what == "truncate":
            del data[place:]
        else:
            span = data[place : place + draw(st.integers(1, 64))]
            data[place:place] = span
    return bytes(data)
