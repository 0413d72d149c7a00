"""Small synthetic data sets, encoded by hand so that every byte of them can be wrong on purpose.

Enters: tags and values. Leaves: data set bytes. Never: patient data.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from tests.peers.encoding import CT_IMAGE, padded

SOP_CLASS, SOP_INSTANCE, STUDY_DATE, STUDY_UID, SERIES_UID = 0x00080016, 0x00080018, 0x00080020, 0x0020000D, 0x0020000E
PIXEL_DATA = 0x7FE00010
_LONG_FORM = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
# All as long as each other, so that data sets made in the same way are too.
_numbers = itertools.count(100_000_000)


def new_uid() -> str:
    """A UID that no other call in this process returned, under the root for test data."""
    return f"1.2.826.0.1.3680043.10.9999.{next(_numbers)}"


def element(tag: int, vr: str, value: bytes, *, explicit: bool = True, little: bool = True, length: int | None = None) -> bytes:
    """One data element (PS3.5 section 7.1). `length` overrides the true length."""
    size = len(value) if length is None else length
    order = "<" if little else ">"
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack(f"{order}L", size) + value
    if vr in _LONG_FORM:
        return head + vr.encode() + struct.pack(f"{order}HL", 0, size) + value
    return head + vr.encode() + struct.pack(f"{order}H", size) + value


@dataclass(frozen=True)
class Made:
    """A data set and the identifiers in it."""

    data_set: bytes
    sop_class: str
    sop_instance: str
    study: str
    series: str

    @property
    def relative_path(self) -> str:
        return f"{self.study}/{self.series}/{self.sop_instance}.dcm"


def make(
    *,
    sop_class: str | None = CT_IMAGE,
    sop_instance: str | None = "",
    study: str | None = "",
    series: str | None = "",
    pixel_bytes: int = 64,
    explicit: bool = True,
    little: bool = True,
    deflated: bool = False,
    extra: Sequence[tuple[int, str, bytes]] = (),
) -> Made:
    """A data set of one instance. A UID that is "" is made up, one that is None is left out; `extra` elements are sorted in."""
    uids = {
        SOP_CLASS: sop_class,
        SOP_INSTANCE: new_uid() if sop_instance == "" else sop_instance,
        STUDY_UID: new_uid() if study == "" else study,
        SERIES_UID: new_uid() if series == "" else series,
    }
    elements = [(tag, "UI", padded(uid)) for tag, uid in uids.items() if uid is not None]
    elements += [(STUDY_DATE, "DA", b"20260102"), (PIXEL_DATA, "OW", bytes(at % 251 for at in range(pixel_bytes))), *extra]
    elements.sort(key=lambda each: each[0])
    data_set = b"".join(element(tag, vr, value, explicit=explicit, little=little) for tag, vr, value in elements)
    if deflated:
        deflater = zlib.compressobj(wbits=-15)
        data_set = deflater.compress(data_set) + deflater.flush()
        data_set += bytes(len(data_set) % 2)
    return Made(data_set, uids[SOP_CLASS] or "", uids[SOP_INSTANCE] or "", uids[STUDY_UID] or "", uids[SERIES_UID] or "")
