"""Changes to data elements, with the lengths around them right.

Enters: a data set or command set. Leaves: another of the same syntax. Never: a full parse: what it cannot read stays as it is.
"""

from __future__ import annotations

import random
import struct

from reference.reference_part10 import Malformed, OutOfBytes, Syntax, read_header
from reference.traffic import element

Element = tuple[int, int, bytes, bytes]

UNDEFINED = 0xFFFFFFFF
SIZES = [0, 0, 1, 2, 3, 4, 8, 62, 63, 64, 65, 66, 126, 127, 128, 129, 130, 1000, 65534, 65535]
TAGS = [(0x0008, 0x0016), (0x0008, 0x0018), (0x0008, 0x0020), (0x0020, 0x000D), (0x0020, 0x000E), (0x0020, 0x000F), (0x0021, 0x0001)]
COMMAND_TAGS = [(0, 0), (0, 0x0002), (0, 0x0100), (0, 0x0110), (0, 0x0800), (0, 0x1000)]
VRS = [b"UI", b"DA", b"SQ", b"UN", b"OB", b"OW", b"UT", b"UC", b"LO", b"US", b"OV", b"ZZ", b"uI", b"\0\0"]
LEVELS = [1, 2, 3, 15, 16, 17, 18, 40]


def split(data: bytes, syntax: Syntax) -> tuple[list[Element], bytes]:
    """Elements of defined length, and the rest from the first that is none."""
    elements: list[Element] = []
    at = 0
    while at < len(data):
        try:
            header = read_header(data, at, syntax)
        except (Malformed, OutOfBytes):
            break
        end = header.value_offset + header.length
        if end > len(data):
            break
        elements.append((*header.tag, header.vr or b"UN", data[header.value_offset : end]))
        at = end
    return elements, data[at:]


def join(elements: list[Element], syntax: Syntax) -> bytes:
    out = b""
    for group, number, vr, value in elements:
        if vr == b"raw":
            out += value
        else:
            fits = value[:0xFFFF] if syntax.explicit_vr else value
            out += element(group, number, vr, fits, explicit_vr=syntax.explicit_vr, little_endian=syntax.little_endian)
    return out


def nested(chance: random.Random, content: bytes, syntax: Syntax) -> bytes:
    """The content inside sequences inside one another, most of undefined length, some of them never closed."""
    for _ in range(chance.choice(LEVELS)):
        vr = chance.choice([b"SQ", b"SQ", b"SQ", b"UN", b"OB", b"LO"])
        inner = Syntax(False, True) if vr == b"UN" and syntax.explicit_vr else syntax
        item = struct.pack(inner.order + "HHL", 0xFFFE, 0xE000, UNDEFINED if chance.random() < 0.8 else len(content))
        item_end, sequence_end = (
            struct.pack(inner.order + "HHL", 0xFFFE, number, 0) if chance.random() < 0.97 else b"" for number in (0xE00D, 0xE0DD)
        )
        header = struct.pack(syntax.order + "HH", 0x0008, 0x1115)
        header += (vr + b"\0\0" if syntax.explicit_vr else b"") + struct.pack(syntax.order + "L", UNDEFINED)
        content = header + item + content + item_end + sequence_end
    return content


def change(chance: random.Random, data: bytes, syntax: Syntax) -> bytes:
    elements, rest = split(data, syntax)
    for _ in range(chance.choice([1, 1, 2, 3])):
        if not elements:
            break
        place = chance.randrange(len(elements))
        group, number, vr, value = elements[place]
        kind = chance.randrange(8)
        if kind == 0:
            size = chance.choice(SIZES)
            filler = chance.choice([b"1", b"\0", b" ", b"\xff"])
            elements[place] = (group, number, vr, value[:size] + filler * (size - len(value)))
        elif kind == 1:
            elements[place] = (*chance.choice(COMMAND_TAGS if group == 0 else TAGS), vr, value)
        elif kind == 2:
            elements[place] = (group, number, chance.choice(VRS), value)
        elif kind == 3:
            del elements[place]
        elif kind == 4:
            elements[place:place] = [elements[chance.randrange(len(elements))]]
        elif kind == 5:
            value = bytearray(value)
            for _ in range(chance.randrange(1, 3) if value else 0):
                value[chance.randrange(len(value))] = chance.choice([0, 0x20, 0x2E, 0x31, 0xFF, chance.randrange(256)])
            elements[place] = (group, number, vr, bytes(value))
        elif kind == 6 and group:
            end = place + chance.randrange(1, 4)
            elements[place:end] = [(0, 0, b"raw", nested(chance, join(elements[place:end], syntax), syntax))]
        elif kind == 7:
            other = chance.randrange(len(elements))
            elements[place], elements[other] = elements[other], elements[place]
    return join(elements, syntax) + rest
