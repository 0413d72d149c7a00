"""The data sets that are sent, their commands and their proposals, encoded by pydicom and pynetdicom.

Enters: a size. Leaves: the bytes of one C-STORE, and where in them the instance's number stands.
Never: patient data; pixels come from a seeded generator.
"""

import random
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext, build_context

UID_ROOT = "1.2.826.0.1.3680043.8.498"
NUMBER_DIGITS = 12
"""Digits of the SOP Instance UID that the load source replaces for each instance."""
NUMBER = "0" * NUMBER_DIGITS
# The 1 keeps the component free of a leading zero; with it the UID has an even length and needs no padding.
INSTANCE_UID = f"{UID_ROOT}.33.1{NUMBER}"
CONTEXT_ID = 1
MESSAGE_ID = 0x7A7A


@dataclass(frozen=True)
class Payload:
    """One C-STORE-RQ. The `_at` fields are offsets in bytes; the number stands once in each of command and data set."""

    name: str
    sop_class_uid: str
    data_set: bytes
    command: bytes
    command_number_at: int
    data_set_number_at: int
    message_id_at: int


def _encoded(elements: Dataset, *, implicit_vr: bool) -> bytes:
    encoded = encode(elements, implicit_vr, True)
    if encoded is None:
        raise ValueError("pynetdicom could not encode the elements")
    return encoded


def image(rows: int, columns: int, frames: int, sop_class_uid: str) -> Dataset:
    """A synthetic CT image of `frames` x `rows` x `columns` unsigned 16 bit pixels."""
    elements = Dataset()
    elements.SpecificCharacterSet = "ISO_IR 100"
    elements.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    elements.SOPClassUID = sop_class_uid
    elements.SOPInstanceUID = INSTANCE_UID
    elements.StudyDate = "20200101"
    elements.StudyTime = "120000"
    elements.AccessionNumber = ""
    elements.Modality = "CT"
    elements.Manufacturer = "fastscp benchmarks"
    elements.PatientName = "Synthetic^Benchmark"
    elements.PatientID = "SYNTHETIC"
    elements.PatientBirthDate = ""
    elements.PatientSex = ""
    elements.StudyInstanceUID = f"{UID_ROOT}.11"
    elements.SeriesInstanceUID = f"{UID_ROOT}.22"
    elements.StudyID = "1"
    elements.SeriesNumber = 1
    elements.InstanceNumber = 1
    elements.SamplesPerPixel = 1
    elements.PhotometricInterpretation = "MONOCHROME2"
    if frames > 1:
        elements.NumberOfFrames = frames
    elements.Rows = rows
    elements.Columns = columns
    elements.BitsAllocated = 16
    elements.BitsStored = 16
    elements.HighBit = 15
    elements.PixelRepresentation = 0
    generator = random.Random(0)
    frame_bytes = rows * columns * 2
    elements.PixelData = b"".join(generator.randbytes(frame_bytes) for _ in range(frames))
    elements["PixelData"].VR = "OW"
    return elements


def _command(sop_class_uid: str) -> bytes:
    """C-STORE-RQ command set, PS3.7 table 9.3-1."""
    fields = Dataset()
    fields.AffectedSOPClassUID = sop_class_uid
    fields.CommandField = 0x0001
    fields.MessageID = MESSAGE_ID
    fields.Priority = 0
    fields.CommandDataSetType = 0x0001
    fields.AffectedSOPInstanceUID = INSTANCE_UID
    group_length = Dataset()
    group_length.CommandGroupLength = len(_encoded(fields, implicit_vr=True))
    return _encoded(group_length, implicit_vr=True) + _encoded(fields, implicit_vr=True)


def _once(needle: bytes, haystack: bytes) -> int:
    if haystack.count(needle) != 1:
        raise ValueError("what is replaced in each instance does not stand there exactly once")
    return haystack.index(needle)


def _payload(name: str, rows: int, columns: int, frames: int, sop_class_uid: str) -> Payload:
    data_set = _encoded(image(rows, columns, frames, sop_class_uid), implicit_vr=False)
    command = _command(sop_class_uid)
    number_at = len(INSTANCE_UID) - NUMBER_DIGITS
    return Payload(
        name=name,
        sop_class_uid=sop_class_uid,
        data_set=data_set,
        command=command,
        command_number_at=_once(INSTANCE_UID.encode(), command) + number_at,
        data_set_number_at=_once(INSTANCE_UID.encode(), data_set) + number_at,
        message_id_at=_once(MESSAGE_ID.to_bytes(2, "little"), command),
    )


@cache
def ct() -> Payload:
    """512 x 512 x 16 bit, 0.52 MB."""
    return _payload("ct", 512, 512, 1, CTImageStorage)


@cache
def small() -> Payload:
    """32 x 32 x 16 bit, 2.6 kB."""
    return _payload("small", 32, 32, 1, CTImageStorage)


@cache
def big() -> Payload:
    """100 frames of 1024 x 1024 x 16 bit, 210 MB."""
    return _payload("big", 1024, 1024, 100, EnhancedCTImageStorage)


def associate_request(sop_class_uid: str, context_count: int) -> bytes:
    """An A-ASSOCIATE-RQ PDU that proposes `sop_class_uid`, explicit VR little endian, as context 1.

    The other contexts are storage classes with pynetdicom's four default transfer syntaxes.
    """
    first = build_context(sop_class_uid, ExplicitVRLittleEndian)
    storage_uids = (str(context.abstract_syntax) for context in AllStoragePresentationContexts)
    others = [build_context(uid) for uid in storage_uids if uid != sop_class_uid]
    contexts: list[PresentationContext] = [first, *others[: context_count - 1]]
    if len(contexts) != context_count:
        raise ValueError(f"there are no {context_count} storage classes")
    for index, context in enumerate(contexts):
        context.context_id = CONTEXT_ID + 2 * index
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "LOAD"
    primitive.called_ae_title = "ANY-SCP"
    primitive.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = 16382
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = f"{UID_ROOT}.99"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def store_pdus(payload: Payload, max_pdu_bytes: int) -> bytes:
    """The C-STORE-RQ as P-DATA-TF PDUs of one PDV each, none longer than `max_pdu_bytes` (PS3.8 section 9.3.5)."""
    room_bytes = max_pdu_bytes - 6
    pdus = []
    for part, control in ((payload.command, 1), (payload.data_set, 0)):
        for at in range(0, len(part), room_bytes):
            fragment = part[at : at + room_bytes]
            last = 2 if at + room_bytes >= len(part) else 0
            pdv = struct.pack(">IBB", len(fragment) + 2, CONTEXT_ID, control | last) + fragment
            pdus.append(struct.pack(">BBI", 0x04, 0, len(pdv)) + pdv)
    return b"".join(pdus)


def write_files(payload: Payload, directories: list[Path], files_each: int) -> None:
    """Part-10 files of `payload`, each with a SOP Instance UID of its own, for clients that read files."""
    number = 0
    for directory in directories:
        directory.mkdir(parents=True)
        for _ in range(files_each):
            number += 1
            digits = str(number).zfill(NUMBER_DIGITS).encode()
            at = payload.data_set_number_at
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = UID(payload.sop_class_uid)
            meta.MediaStorageSOPInstanceUID = UID(INSTANCE_UID.removesuffix(NUMBER) + digits.decode())
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            with (directory / f"{number}.dcm").open("wb") as file:
                file.write(_file_head(meta))
                file.write(payload.data_set[:at] + digits + payload.data_set[at + NUMBER_DIGITS :])


def _file_head(meta: FileMetaDataset) -> bytes:
    """Preamble, prefix and file meta information group."""
    head = DicomBytesIO()
    head.write(bytes(128) + b"DICM")
    write_file_meta_info(head, meta, enforce_standard=True)
    return head.getvalue()
