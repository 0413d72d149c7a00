"""New inputs from old ones.

Enters: bytes that were worth keeping. Leaves: bytes near them. Never: more than a ceiling of them.
"""

from __future__ import annotations

import random
import struct

import elements

from reference.driving import CONTEXTS
from reference.reference_part10 import IMPLICIT, Syntax, syntax_of

CEILING_BYTES = 400_000
BOMBS = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    0x7F,
    0xFF,
    0x4000,
    0x4001,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
]
WORDS = [
    bytes.fromhex(word)
    for word in ("FEFF00E0", "FEFF0DE0", "FEFFDDE0", "FFFEE000", "FFFEE0DD", "FFFFFFFF", "00000000", "20000E00", "20000D00")
]
WORDS += [b"SQ\0\0", b"UN\0\0", b"UI", b"OB\0\0", b"UT\0\0", b"\x08\x00\x16\x00", b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01"]


def damage(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A few changes that know nothing of the format."""
    out = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4, 8])):
        place = chance.randrange(len(out) + 1)
        kind = chance.randrange(9)
        if kind == 0 and out:
            out[place % len(out)] ^= 1 << chance.randrange(8)
        elif kind == 1 and out:
            out[place % len(out)] = chance.randrange(256)
        elif kind == 2:
            out[place:place] = chance.randbytes(chance.choice([1, 2, 6, 12, 40]))
        elif kind == 3:
            del out[place : place + chance.choice([1, 2, 6, 12, 40])]
        elif kind == 4:
            layout = chance.choice(["<L", ">L", "<H", ">H"])
            value = struct.pack(layout, chance.choice(BOMBS) & (0xFFFFFFFF if layout[1] == "L" else 0xFFFF))
            out[place : place + len(value)] = value
        elif kind == 5:
            word = chance.choice(WORDS)
            out[place : place + (len(word) if chance.random() < 0.5 else 0)] = word
        elif kind == 6:
            del out[place:]
        elif kind == 7:
            out[place:place] = out[place : place + chance.choice([1, 8, 64, 512])]
        elif other:
            start = chance.randrange(len(other))
            out[place:place] = other[start : start + chance.choice([8, 64, 512])]
    return bytes(out[:CEILING_BYTES])


# A stream as PDUs of PDVs, so that a change inside leaves the lengths around it right.

# Of a P-DATA-TF under each maximum that `cases.Plan` has, of a command set in one PDV, of an instance.
LIMITS_BYTES = [2 * pdu_bytes + 65536 for pdu_bytes in (0, 100, 16384, 131072)] + [16384 + 6, 50, 1000, 100_000]

Pdu = tuple[int, list[bytes]]
RAW = -1


def split(stream: bytes) -> list[Pdu]:
    """PDUs as (type, parts): those of a P-DATA-TF are context, control and payload of each PDV, of another PDU its body."""
    pdus: list[Pdu] = []
    while len(stream) >= 6:
        pdu_type, _, length = struct.unpack_from(">BBL", stream)
        body, stream = stream[6 : 6 + length], stream[6 + length :]
        parts = []
        while pdu_type == 4 and len(body) >= 6:
            (pdv_length,) = struct.unpack_from(">L", body)
            parts.append(body[4 : 4 + pdv_length])
            body = body[4 + pdv_length :]
        pdus.append((pdu_type, parts or [body]))
    return pdus


def to_bytes(pdu: Pdu, surplus_bytes: int = 0) -> bytes:
    """Args: surplus_bytes: so many behind the last PDV, too few to be one."""
    pdu_type, parts = pdu
    if pdu_type == RAW:
        return b"".join(parts)
    body = b"".join(struct.pack(">L", len(part)) + part for part in parts) if pdu_type == 4 else b"".join(parts)
    body += bytes(surplus_bytes)
    return struct.pack(">BBL", pdu_type, 0, len(body)) + body


def stretched(chance: random.Random, parts: list[bytes], part: int) -> bytes:
    """One PDV of the PDU, longer, so that PDU or payload is as long as a limit of the reader, or nearly."""
    limit = chance.choice(LIMITS_BYTES) + chance.choice([-1, 0, 1, chance.randrange(-8, 9)])
    return parts[part] + bytes(max(0, limit - sum(len(other) + 4 for other in parts)))


def evened(chance: random.Random, pdv: bytes) -> list[Pdu]:
    """The PDV in PDUs of one length, but for the last."""
    size = chance.choice([1, 2, 12, 100, 1000, 5000])
    pieces = [pdv[at : at + size] for at in range(2, len(pdv), size)][:500]
    controls = [pdv[1] & ~2] * (len(pieces) - 1) + [pdv[1]]
    return [(4, [bytes([pdv[0], control]) + piece]) for control, piece in zip(controls, pieces, strict=True)]


def reshape(chance: random.Random, stream: bytes, other: bytes) -> bytes:
    """A change to PDUs, PDVs or the payload of one, with all lengths right again."""
    pdus = split(stream)
    for _ in range(chance.choice([1, 1, 2, 4])):
        if not pdus:
            return stream
        place = chance.randrange(len(pdus))
        pdu_type, parts = pdus[place]
        part = chance.randrange(len(parts)) if parts else 0
        kind = chance.randrange(14)
        if kind == 0:
            pdus[place:place] = [pdus[chance.randrange(len(pdus))]]
        elif kind == 1:
            del pdus[place]
        elif kind == 2:
            pdus[place : place + 2] = [(pdu_type, parts + [p for _, more in pdus[place + 1 : place + 2] for p in more])]
        elif kind == 3:
            pdus[place : place + 1] = [(pdu_type, parts[:part]), (pdu_type, parts[part:])]
        elif kind == 4:
            pdus[place:place] = split(other)[: chance.choice([1, 2, 10])]
        elif kind == 5 and pdu_type == 4:
            pdus[place] = (RAW, [to_bytes((pdu_type, parts), chance.randrange(1, 8))])
        elif kind == 6 and pdu_type == 4 and parts and len(parts[part]) >= 2:
            pdus[place] = (pdu_type, [*parts[:part], stretched(chance, parts, part), *parts[part + 1 :]])
        elif kind == 7 and pdu_type == 4 and parts and len(parts[part]) > 2:
            pdus[place : place + 1] = [(pdu_type, [one]) for one in parts[:part]] + evened(chance, parts[part])
        elif pdu_type == 4 and parts and len(parts[part]) >= 2:
            pdus[place] = (pdu_type, [*parts[:part], *change_pdv(chance, parts[part], other), *parts[part + 1 :]])
    return b"".join(map(to_bytes, pdus))[:CEILING_BYTES]


def change_pdv(chance: random.Random, pdv: bytes, other: bytes) -> list[bytes]:
    header, payload = pdv[:2], pdv[2:]
    kind = chance.randrange(8)
    if kind == 0:
        return [bytes([chance.choice([1, 1, 3, 5, 7, 255, header[0], 2]), header[1]]) + payload]
    if kind == 1:
        return [bytes([header[0], chance.choice([0, 1, 2, 3, 0xFF])]) + payload]
    if kind == 2:
        at = chance.randrange(len(payload) + 1)
        return [bytes([header[0], header[1] & ~2]) + payload[:at], header + payload[at:]]
    if kind == 3:
        return [bytes([header[0], header[1] & ~2]) + payload, header]
    if kind == 4 and not header[1] & 1:
        # Over the end of a segment, and near it.
        return [header + payload + bytes(chance.choice([1000, 65000, max(0, 65536 - len(payload) - chance.randrange(400)), 100_000]))]
    if kind in (5, 6):
        syntax = IMPLICIT if header[1] & 1 else syntax_of(CONTEXTS.get(header[0], ""))
        return [header + elements.change(chance, payload, syntax)]
    return [header + damage(chance, payload, other)]


def mutated(chance: random.Random, target: str, data: bytes, other: bytes, syntax: Syntax) -> bytes:
    """Args: syntax: of the data set, for the targets that are one."""
    if chance.random() < 0.3:
        return damage(chance, data, other)
    if target == "reader":
        return reshape(chance, data, other)
    return elements.change(chance, data, syntax)[:CEILING_BYTES]
