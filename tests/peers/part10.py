"""A strict reader of Part-10 files (PS3.10 section 7) that shares no code with the receiver or with pydicom.

Enters: the bytes of a file. Leaves: its meta elements and its data set bytes. Never: tolerance of what the standard forbids.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

GROUP_LENGTH, VERSION, MEDIA_CLASS, MEDIA_INSTANCE = 0x00020000, 0x00020001, 0x00020002, 0x00020003
TRANSFER_SYNTAX, IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION, SOURCE_AE = 0x00020010, 0x00020012, 0x00020013, 0x00020016
VRS = {
    GROUP_LENGTH: "UL",
    VERSION: "OB",
    MEDIA_CLASS: "UI",
    MEDIA_INSTANCE: "UI",
    TRANSFER_SYNTAX: "UI",
    IMPLEMENTATION_CLASS: "UI",
    IMPLEMENTATION_VERSION: "SH",
    SOURCE_AE: "AE",
}


@dataclass(frozen=True)
class Part10File:
    meta: dict[int, bytes]
    """Raw values by tag, padding included."""
    data_set: bytes

    def uid(self, tag: int) -> str:
        """A UID value without its NUL padding, which must be of even length in the file."""
        value = self.meta[tag]
        assert len(value) % 2 == 0, f"odd length of {tag:08X}"
        return value.removesuffix(b"\0").decode("ascii")

    def text(self, tag: int) -> str:
        value = self.meta[tag]
        assert len(value) % 2 == 0, f"odd length of {tag:08X}"
        return value.rstrip(b" ").decode("latin-1")


def read_part10(path: Path) -> Part10File:
    """Read a file, asserting preamble, prefix, VRs, ascending tags and the group length."""
    data = path.read_bytes()
    assert data[:128] == bytes(128), "the preamble is not zero"
    assert data[128:132] == b"DICM", "no DICM prefix"
    tag, vr, length = _header(data, 132)
    assert (tag, vr, length) == (GROUP_LENGTH, "UL", 4), "no group length at the start"
    end = 144 + struct.unpack_from("<L", data, 140)[0]
    meta, at, previous = {GROUP_LENGTH: data[140:144]}, 144, tag
    while at < end:
        tag, vr, length = _header(data, at)
        assert tag >> 16 == 2, f"{tag:08X} inside the file meta group"
        assert tag > previous, f"{tag:08X} out of order"
        assert vr == VRS[tag], f"VR {vr} of {tag:08X}"
        at += 12 if vr == "OB" else 8
        meta[tag] = data[at : at + length]
        at, previous = at + length, tag
    assert at == end, "the group length does not fit"
    return Part10File(meta, data[end:])


def _header(data: bytes, at: int) -> tuple[int, str, int]:
    group, element = struct.unpack_from("<HH", data, at)
    vr = data[at + 4 : at + 6].decode("ascii")
    length = struct.unpack_from("<L", data, at + 8)[0] if vr == "OB" else struct.unpack_from("<H", data, at + 6)[0]
    return group << 16 | element, vr, length


def assert_file_meta(
    stored: Part10File,
    *,
    sop_class: str,
    sop_instance: str,
    transfer_syntax: str,
    source_ae: str,
    implementation_class: str,
    implementation_version: str,
) -> None:
    """The file meta says exactly this (PS3.10 table 7.1-1)."""
    assert set(stored.meta) == set(VRS)
    assert stored.meta[VERSION] == b"\x00\x01"
    assert stored.uid(MEDIA_CLASS) == sop_class
    assert stored.uid(MEDIA_INSTANCE) == sop_instance
    assert stored.uid(TRANSFER_SYNTAX) == transfer_syntax
    assert stored.uid(IMPLEMENTATION_CLASS) == implementation_class
    assert stored.text(IMPLEMENTATION_VERSION) == implementation_version
    assert stored.text(SOURCE_AE) == source_ae
