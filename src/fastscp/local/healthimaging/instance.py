"""One file of an import: whether it is a DICOM instance, and what its head says.

Enters: the bytes of an object. Leaves: identifiers and attributes, and warnings; or why the file cannot be imported.
Never: pixel data looked at beyond its length.
"""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError

PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription")
SERIES = ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined", "Laterality", "FrameOfReferenceUID")
INSTANCE = (
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "PhotometricInterpretation",
)
_REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

# https://docs.aws.amazon.com/healthimaging/latest/devguide/dicom-element-constraints.html
_MOST_CHARACTERS = {
    **dict.fromkeys(("PatientName", "PatientID", "StudyInstanceUID", "StudyID", "StudyDescription", "AccessionNumber"), 256),
    **dict.fromkeys(("SOPInstanceUID", "SeriesInstanceUID"), 256),
    **dict.fromkeys(("PatientBirthDate", "StudyDate"), 18),
    "PatientSex": 16,
    "StudyTime": 28,
}
# PS3.5 table 6.2-1: what a value of these may have at most.
_VR_CHARACTERS = {"StudyID": 16, "AccessionNumber": 16, "PatientID": 64, "StudyDescription": 64}

_ROOT = "1.2.840.10008.1.2"
# https://docs.aws.amazon.com/healthimaging/latest/devguide/supported-transfer-syntaxes.html
_KNOWN = {_ROOT} | {
    f"{_ROOT}.{end}"
    for end in (
        *("1", "1.99", "2", "5", "4.50", "4.51", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "4.92", "4.93"),
        *(f"4.{number}" for number in range(100, 109)),
        *(f"4.{number}.1" for number in range(100, 107)),
        *("4.201", "4.202", "4.203"),
    )
}
_DEFLATED = f"{_ROOT}.1.99"
_UNDEFINED = 0xFFFFFFFF


class NotImportable(Exception):
    """Why a file is not imported; its text is the message of failure.ndjson."""


class Warned(NamedTuple):
    """A warning about an instance that is imported all the same.

    Source: https://docs.aws.amazon.com/healthimaging/latest/devguide/reference-warning-codes.html
    """

    code: int
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What is kept of an instance: attributes by keyword, each as text, those that are absent left out."""

    patient: Mapping[str, str]
    study: Mapping[str, str]
    series: Mapping[str, str]
    instance: Mapping[str, str]
    warnings: tuple[Warned, ...]

    @property
    def study_instance_uid(self) -> str:
        return self.study["StudyInstanceUID"]

    @property
    def series_instance_uid(self) -> str:
        return self.series["SeriesInstanceUID"]

    @property
    def sop_instance_uid(self) -> str:
        return self.instance["SOPInstanceUID"]


def read_instance(content: bytes) -> Imported:
    """The instance in a PS3.10 file. Raises NotImportable."""
    file = io.BytesIO(content)
    try:
        dataset = dcmread(file, stop_before_pixels=True)
    except InvalidDicomError as error:
        raise NotImportable("the file is not a DICOM P10 file: no DICM prefix") from error
    except (ValueError, KeyError, EOFError, OSError, AttributeError, NotImplementedError, struct.error) as error:
        # What pydicom raises depends on where it trips over the bytes.
        raise NotImportable(f"the file cannot be parsed: {type(error).__name__}") from error
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if not syntax:
        raise NotImportable("the attribute TransferSyntaxUID is missing")
    if syntax != _DEFLATED:
        _check_whole(dataset, content, file.tell())
    try:
        patient, study, series, instance = (_attributes(dataset, keywords) for keywords in (PATIENT, STUDY, SERIES, INSTANCE))
    except (ValueError, TypeError, LookupError, OverflowError, struct.error) as error:
        raise NotImportable(f"an attribute cannot be read: {type(error).__name__}") from error
    found = {**patient, **study, **series, **instance}
    for keyword in _REQUIRED:
        if not found.get(keyword):
            raise NotImportable(f"the attribute {keyword} is missing")
    for keyword, most in _MOST_CHARACTERS.items():
        if len(found.get(keyword, "")) > most:
            raise NotImportable(f"the attribute {keyword} has more than {most} characters")
    instance["TransferSyntaxUID"] = syntax
    return Imported(patient, study, series, instance, tuple(_warnings(found, syntax)))


def _attributes(dataset: Dataset, keywords: tuple[str, ...]) -> dict[str, str]:
    return {keyword: str(dataset[keyword].value) for keyword in keywords if keyword in dataset and dataset[keyword].value is not None}


def _check_whole(dataset: FileDataset, content: bytes, position: int) -> None:
    """pydicom takes a data set that ends in the middle of a value for a whole one."""
    rest = content[position : position + 12]
    if rest:
        little = dataset.original_encoding[1] is not False
        explicit = rest[4:6].isalpha() and rest[4:6].isupper()
        at = 8 if explicit else 4
        needed = at + 4
        length = int.from_bytes(rest[at:needed], "little" if little else "big")
        if len(rest) < needed or (length != _UNDEFINED and position + needed + length > len(content)):
            raise NotImportable("the file ends within its pixel data")
        return
    last = dataset.get_item(max(dataset.keys(), default=0)) if len(dataset) else None
    if isinstance(last, RawDataElement) and last.length != _UNDEFINED and len(last.value or b"") < last.length:
        raise NotImportable("the file ends within an element")


def _warnings(found: Mapping[str, str], syntax: str) -> list[Warned]:
    warnings = []
    if syntax not in _KNOWN:
        warnings.append(Warned(0xB120, "UNSUPPORTED_TRANSFER_SYNTAX", f"Transfer syntax {syntax} is not supported"))
    for keyword in _REQUIRED:
        components = found[keyword].split(".")
        if len(found[keyword]) > 64 or any(not part.isdigit() or (len(part) > 1 and part[0] == "0") for part in components):
            warnings.append(Warned(0xB201, "INVALID_UID_FORMAT", f"{keyword} is not a valid UID"))
    for keyword, most in _VR_CHARACTERS.items():
        if len(found.get(keyword, "")) > most:
            warnings.append(Warned(0xB202, "INVALID_DICOM_VALUE_LENGTH", f"{keyword} has more than {most} characters"))
    return warnings
