"""Every DICOM file that pydicom, pydicom-data and pynetdicom bring along, as something to send.

Enters: the installed packages. Leaves: samples with the bytes of their data sets. Never: a file left out without a reason.
"""

from __future__ import annotations

import importlib.util
import struct
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pydicom

from tests.peers.encoding import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE

PACKAGES = {"pydicom": "data", "data_store": "data", "pynetdicom": "tests"}
NOT_DICOM_SUFFIXES = {".py", ".pyc", ".pyi", ".txt", ".json", ".md", ".icc", ".dump", ".gz", ".crt", ".key", ".ini"}
NOT_DICOM_NAMES = {"README"}

WITHOUT_META = {
    "pydicom/test_files/ExplVR_BigEndNoMeta.dcm": EXPLICIT_BE,
    "pydicom/test_files/ExplVR_LitEndNoMeta.dcm": EXPLICIT_LE,
    "pydicom/test_files/no_meta.dcm": EXPLICIT_LE,
    "pydicom/test_files/rtstruct.dcm": IMPLICIT_LE,
    "data_store/OT-PAL-8-face.dcm": IMPLICIT_LE,
}
"""Files that are a bare data set, with the transfer syntax that it is in."""

META_WITHOUT_SYNTAX = {
    "pydicom/test_files/meta_missing_tsyntax.dcm": IMPLICIT_LE,
}
"""Files whose meta names no transfer syntax, with the one that the data set is in."""

RAW_DATA = "1.2.840.10008.5.1.4.1.1.66"
"""SOP class that a file which names none is sent as."""


@dataclass(frozen=True)
class Sample:
    """A file and what a sender makes of it."""

    name: str
    path: Path
    transfer_syntax: str
    sop_class: str
    sop_instance: str
    data_set: bytes


def meta_end(data: bytes) -> int:
    """Offset of the first byte after preamble, prefix and file meta group; 0 where there is no prefix.

    Walks the elements instead of believing the group length, which some of the files get wrong or leave out.
    """
    if data[128:132] != b"DICM":
        return 0
    at = 132
    while data[at : at + 2] == b"\x02\x00":
        if data[at + 4 : at + 6] in (b"OB", b"UN", b"SQ", b"OW", b"UT"):
            at += 12 + struct.unpack_from("<L", data, at + 8)[0]
        else:
            at += 8 + struct.unpack_from("<H", data, at + 6)[0]
    return at


def read_sample(name: str, path: Path) -> Sample:
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        meta = dataset.file_meta
        syntax = WITHOUT_META.get(name) or META_WITHOUT_SYNTAX.get(name) or str(meta.TransferSyntaxUID)
        sop_class = meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID") or RAW_DATA
        sop_instance = meta.get("MediaStorageSOPInstanceUID") or dataset.get("SOPInstanceUID") or "1.2.826.0.1.3680043.10.9999.0"
    return Sample(name, path, syntax, str(sop_class), str(sop_instance), data[meta_end(data) :])


@cache
def samples() -> dict[str, Sample]:
    """Every sample by "package/path"."""
    found = {}
    for package, folder in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} is not installed"
        assert spec.submodule_search_locations
        root = Path(spec.submodule_search_locations[0]) / folder
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix not in NOT_DICOM_SUFFIXES and path.name not in NOT_DICOM_NAMES:
                name = f"{package}/{path.relative_to(root)}"
                found[name] = read_sample(name, path)
    return found
