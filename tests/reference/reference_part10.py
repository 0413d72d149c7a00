"""Part-10 file meta and the head of a data set (PS3.10 section 7.1, PS3.5 section 7), in plain Python.

Enters: UIDs, or a whole data set. Leaves: file meta bytes, or the identifying elements. Never: trusts a length.
"""

import struct
import zlib
from dataclasses import dataclass, field

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
# PS3.6 table A-1: deflated explicit VR little endian, JPIP referenced deflate, JPIP HTJ2K referenced deflate.
DEFLATED = {DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}

UNDEFINED_LENGTH = 0xFFFFFFFF
DEPTH_CEILING = 32
VALUE_CEILING_BYTES = 128
LAST_TAG = (0x0020, 0x000E)
WANTED = {
    (0x0008, 0x0016): "sop_class_uid",
    (0x0008, 0x0018): "sop_instance_uid",
    (0x0008, 0x0020): "study_date",
    (0x0020, 0x000D): "study_instance_uid",
    (0x0020, 0x000E): "series_instance_uid",
}
ITEM = (0xFFFE, 0xE000)
ITEM_DELIMITATION = (0xFFFE, 0xE00D)
SEQUENCE_DELIMITATION = (0xFFFE, 0xE0DD)

# PS3.5 table 7.1-2: two bytes of length right after the VR. Every other VR has two reserved bytes and four of length.
SHORT_LENGTH_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
UNDEFINED_LENGTH_VRS = frozenset({b"SQ", b"UN", b"OB", b"OW"})


@dataclass
class Head:
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    study_date: str | None = None
    state: str = "incomplete"
    error_offset: int = -1


class OutOfBytes(Exception):
    """The data set ended inside an element."""


class Malformed(Exception):
    """What stands at `offset` is no element."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


@dataclass(frozen=True)
class Syntax:
    explicit_vr: bool
    little_endian: bool

    @property
    def order(self) -> str:
        return "<" if self.little_endian else ">"


@dataclass(frozen=True)
class Element:
    tag: tuple[int, int]
    vr: bytes
    length: int
    offset: int
    value_offset: int


IMPLICIT = Syntax(explicit_vr=False, little_endian=True)


def syntax_of(transfer_syntax_uid: str) -> Syntax:
    """How a data set of this transfer syntax is written; an unknown one is taken for explicit little endian."""
    if transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN:
        return IMPLICIT
    return Syntax(explicit_vr=True, little_endian=transfer_syntax_uid != EXPLICIT_VR_BIG_ENDIAN)


def unpack(layout: str, data: bytes, offset: int) -> tuple[int, ...]:
    if offset + struct.calcsize(layout) > len(data):
        raise OutOfBytes
    return struct.unpack_from(layout, data, offset)


def read_tag(data: bytes, offset: int, syntax: Syntax) -> tuple[int, int]:
    group, element = unpack(syntax.order + "HH", data, offset)
    return group, element


def read_header(data: bytes, offset: int, syntax: Syntax) -> Element:
    tag = read_tag(data, offset, syntax)
    if tag[0] == 0xFFFE or not syntax.explicit_vr:
        (length,) = unpack(syntax.order + "L", data, offset + 4)
        return Element(tag, b"", length, offset, offset + 8)
    vr = bytes(unpack("BB", data, offset + 4))
    if offset + 8 > len(data):
        raise OutOfBytes
    if not all(0x41 <= letter <= 0x5A for letter in vr):
        raise Malformed(offset)
    if vr in SHORT_LENGTH_VRS:
        (length,) = unpack(syntax.order + "H", data, offset + 6)
        return Element(tag, vr, length, offset, offset + 8)
    (length,) = unpack(syntax.order + "L", data, offset + 8)
    return Element(tag, vr, length, offset, offset + 12)


def end_of_value(data: bytes, element: Element, syntax: Syntax, depth: int) -> int:
    """Where the next element begins. `depth` counts the open sequences and items of undefined length around this element."""
    if element.length != UNDEFINED_LENGTH:
        end = element.value_offset + element.length
        if end > len(data):
            raise OutOfBytes
        return end
    if element.vr and element.vr not in UNDEFINED_LENGTH_VRS:
        raise Malformed(element.offset)
    if depth == DEPTH_CEILING:
        raise Malformed(element.offset)
    # A UN of undefined length holds a sequence in implicit VR little endian, whatever is around it (PS3.5 section 6.2.2, note 2; CP-246).
    return end_of_sequence(data, element.value_offset, IMPLICIT if element.vr == b"UN" else syntax, depth + 1)


def end_of_sequence(data: bytes, offset: int, syntax: Syntax, depth: int) -> int:
    while True:
        header = read_header(data, offset, syntax)
        if header.tag == SEQUENCE_DELIMITATION:
            return header.value_offset
        if header.tag != ITEM:
            raise Malformed(offset)
        if header.length != UNDEFINED_LENGTH:
            offset = header.value_offset + header.length
        elif depth == DEPTH_CEILING:
            raise Malformed(offset)
        else:
            offset = end_of_item(data, header.value_offset, syntax, depth + 1)


def end_of_item(data: bytes, offset: int, syntax: Syntax, depth: int) -> int:
    while True:
        header = read_header(data, offset, syntax)
        if header.tag == ITEM_DELIMITATION:
            return header.value_offset
        if header.tag[0] == 0xFFFE:
            raise Malformed(offset)
        offset = end_of_value(data, header, syntax, depth)


def scan_head(data: bytes, *, explicit_vr: bool, little_endian: bool, last: bool = True) -> Head:
    data = bytes(data)
    syntax = Syntax(explicit_vr, little_endian)
    head = Head()
    offset = 0
    try:
        while offset != len(data) or not last:
            element = read_header(data, offset, syntax)
            tag = element.tag
            if tag[0] == 0xFFFE:
                raise Malformed(offset)
            if tag > LAST_TAG:
                break
            if tag in WANTED:
                if element.length == UNDEFINED_LENGTH:
                    raise Malformed(offset)
                kept_bytes = min(element.length, VALUE_CEILING_BYTES)
                value = data[element.value_offset : element.value_offset + kept_bytes]
                if len(value) < kept_bytes:
                    raise OutOfBytes
                setattr(head, WANTED[tag], value.rstrip(b"\0 ").decode("latin-1"))
            if tag == LAST_TAG:
                break
            offset = end_of_value(data, element, syntax, depth=0)
        head.state = "complete"
    except OutOfBytes:
        head.state = "incomplete"
    except Malformed as malformed:
        head.state = "malformed"
        head.error_offset = malformed.offset
    return head


def inflated_head(deflated: bytes, limit_bytes: int) -> Head:
    """The head of a deflated data set (PS3.5 annex A.5: raw deflate, explicit VR little endian inside)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(deflated, limit_bytes)
    return scan_head(data, explicit_vr=True, little_endian=True, last=inflater.eof)


def encode_file_meta(
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    source_ae_title: str,
    implementation_class_uid: str,
    implementation_version_name: str,
) -> bytes:
    """Preamble, prefix and group 0002 in explicit VR little endian."""

    def element(number: int, vr: bytes, value: bytes, pad: bytes) -> bytes:
        if len(value) % 2:
            value += pad
        if vr == b"OB":
            return struct.pack("<HH2sHL", 0x0002, number, vr, 0, len(value)) + value
        return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value

    group = element(0x0001, b"OB", b"\x00\x01", b"\0")
    group += element(0x0002, b"UI", sop_class_uid.encode("latin-1"), b"\0")
    group += element(0x0003, b"UI", sop_instance_uid.encode("latin-1"), b"\0")
    group += element(0x0010, b"UI", transfer_syntax_uid.encode("latin-1"), b"\0")
    group += element(0x0012, b"UI", implementation_class_uid.encode("latin-1"), b"\0")
    group += element(0x0013, b"SH", implementation_version_name.encode("latin-1"), b" ")
    group += element(0x0016, b"AE", source_ae_title.encode("latin-1"), b" ")
    return bytes(128) + b"DICM" + element(0x0000, b"UL", struct.pack("<L", len(group)), b"") + group


@dataclass
class Instance:
    """One instance, received or being received: its data set as one run of bytes."""

    context_id: int
    message_id: int
    sop_class_uid: str | None
    sop_instance_uid: str | None
    transfer_syntax_uid: str
    file_meta: bytes
    data_set: bytearray = field(default_factory=bytearray)
    dataset_bytes: int = 0
    complete: bool = False
    refusal: str | None = None

    @property
    def deflated(self) -> bool:
        return self.transfer_syntax_uid in DEFLATED

    @property
    def head(self) -> Head:
        syntax = syntax_of(self.transfer_syntax_uid)
        return scan_head(self.data_set, explicit_vr=syntax.explicit_vr, little_endian=syntax.little_endian, last=self.complete)

    @property
    def file_meta_bytes(self) -> int:
        return len(self.file_meta)

    @property
    def file_bytes(self) -> int:
        return self.file_meta_bytes + self.dataset_bytes

    def file(self) -> bytes:
        return self.file_meta + bytes(self.data_set)
