"""The head of a DICOM file (PS3.10) that came from anywhere.

Enters: the first bytes of a file. Leaves: Study Date and UIDs. Never: an attribute of the patient, an unbounded amount of inflated data.
"""

import re
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from importflow.keys import is_key_safe

LARGEST_INFLATED_BYTES = 8 << 20

_PREAMBLE_BYTES = 128
_TRANSFER_SYNTAX_UID = 0x00020010
_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_STUDY_DATE = 0x00080020
_STUDY_INSTANCE_UID = 0x0020000D
_SERIES_INSTANCE_UID = 0x0020000E
_NAMES = {
    _TRANSFER_SYNTAX_UID: "Transfer Syntax UID (0002,0010)",
    _SOP_CLASS_UID: "SOP Class UID (0008,0016)",
    _SOP_INSTANCE_UID: "SOP Instance UID (0008,0018)",
    _STUDY_INSTANCE_UID: "Study Instance UID (0020,000D)",
    _SERIES_INSTANCE_UID: "Series Instance UID (0020,000E)",
}
_WANTED = [_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_DATE, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID]
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
# Deflated Explicit VR Little Endian, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate.
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
# What pydicom raises about bytes that are no DICOM, or break off.
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_study_date = re.compile(rb"[0-9]{8}").fullmatch


class Instance(NamedTuple):
    """What names an instance. The date is YYYYMMDD, None where there is no usable one."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    study_date: str | None


class TooShortError(Exception):
    """More of the file is needed."""


def read_instance(head: bytes, *, whole: bool) -> Instance:
    """The instance in a file that begins like this.

    Args:
        whole: whether this is all of the file.

    Raises:
        TooShortError: the file goes on, and so must the reading.
        ValueError: this is no instance that can be imported; the text says why.
    """
    if len(head) < _PREAMBLE_BYTES + 4 and not whole:
        raise TooShortError
    if head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] != b"DICM":
        raise ValueError("not a DICOM file: no DICM after the preamble (PS3.10 7.1)")
    try:
        return _instance(*_parsed(head, whole))
    except _NotThereError as absent:
        raise ValueError(str(absent)) from None
    except TooShortError:
        if not whole:
            raise
        raise ValueError("not a DICOM file: it breaks off") from None
    except _UNREADABLE:
        if not whole:
            raise TooShortError from None
        raise ValueError("not a DICOM file: its head cannot be read") from None


class _NotThereError(Exception):
    pass


def _parsed(head: bytes, whole: bool) -> tuple[Dataset, Dataset]:
    """File meta and the beginning of the data set. Raises TooShortError where (0020,000E) may still come."""
    file = BytesIO(head)
    file.seek(_PREAMBLE_BYTES + 4)
    meta, ended = _read_until(file, lambda tag: tag >> 16 != 2, explicit_vr=True, little_endian=True, wanted=None)
    if not ended and not whole:
        raise TooShortError
    syntax = _uid(meta, _TRANSFER_SYNTAX_UID)
    if syntax in _DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        file = BytesIO(inflater.decompress(file.read(), LARGEST_INFLATED_BYTES))
        whole = whole and inflater.eof
    data_set, ended = _read_until(
        file,
        lambda tag: tag > _SERIES_INSTANCE_UID,
        explicit_vr=syntax != _IMPLICIT_VR_LITTLE_ENDIAN,
        little_endian=syntax != _EXPLICIT_VR_BIG_ENDIAN,
        wanted=_WANTED,
    )
    if not ended and not whole:
        raise TooShortError
    return meta, data_set


def _read_until(
    file: BytesIO, is_behind: Callable[[int], bool], *, explicit_vr: bool, little_endian: bool, wanted: list[int] | None
) -> tuple[Dataset, bool]:
    """Elements before the first that is behind what is wanted, and whether there was such a one: then none before it broke off."""
    seen = False

    def stop_when(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal seen
        seen = is_behind(tag)
        return seen

    return read_dataset(file, not explicit_vr, little_endian, stop_when=stop_when, specific_tags=wanted), seen


def _instance(meta: Dataset, data_set: Dataset) -> Instance:
    for data, tag in ((meta, _TRANSFER_SYNTAX_UID), (data_set, _SOP_CLASS_UID)):
        _uid(data, tag)
    uids = [_uid(data_set, tag) for tag in (_STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID, _SOP_INSTANCE_UID)]
    date = _value(data_set, _STUDY_DATE)
    return Instance(uids[0], uids[1], uids[2], date.decode() if _study_date(date) else None)


def _uid(data: Dataset, tag: int) -> str:
    uid = _value(data, tag).decode("ascii", "replace")
    if not uid:
        raise _NotThereError(f"no {_NAMES[tag]}")
    if not is_key_safe(uid):
        raise _NotThereError(f"unusable {_NAMES[tag]}")
    return uid


def _value(data: Dataset, tag: int) -> bytes:
    # As it was read: a conversion would warn of odd values in the log, and quote them.
    value = data.get_item(tag).value if tag in data else None
    return value.strip(b" \0") if isinstance(value, bytes) else b""
