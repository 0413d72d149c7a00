"""Command sets (PS3.7 sections 6.3 and 9.3.1), in plain Python.

Enters: a command set, or the fields of a C-STORE-RSP. Leaves: its fields, or encoded PDUs. Never: a decision about either.
"""

import struct
from dataclasses import dataclass

from fastscp.errors import ProtocolError

COMMAND_SET_CEILING_BYTES = 16 * 1024

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
NO_DATA_SET = 0x0101
UID_CEILING_BYTES = 64

AFFECTED_SOP_CLASS_UID = (0x0000, 0x0002)
COMMAND_FIELD = (0x0000, 0x0100)
MESSAGE_ID = (0x0000, 0x0110)
MESSAGE_ID_RESPONDED_TO = (0x0000, 0x0120)
COMMAND_DATA_SET_TYPE = (0x0000, 0x0800)
STATUS = (0x0000, 0x0900)
OFFENDING_ELEMENT = (0x0000, 0x0901)
ERROR_COMMENT = (0x0000, 0x0902)
AFFECTED_SOP_INSTANCE_UID = (0x0000, 0x1000)


@dataclass
class Command:
    """The elements of a command set that are looked at. A value is None where the element is absent."""

    command_field: int | None = None
    message_id: int | None = None
    has_data_set: bool = False
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None


def split_elements(command_set: bytes) -> list[tuple[tuple[int, int], bytes]]:
    """Elements in order. Raises ProtocolError where one does not fit into the set."""
    elements = []
    position = 0
    while position < len(command_set):
        if len(command_set) - position < 8:
            raise ProtocolError("the command set ends inside an element header")
        group, element, length = struct.unpack_from("<HHL", command_set, position)
        position += 8
        if length > len(command_set) - position:
            raise ProtocolError("a command element is longer than the command set")
        elements.append(((group, element), command_set[position : position + length]))
        position += length
    return elements


def decode_uid(value: bytes) -> str | None:
    """Without its padding; more than the 64 characters that a UID can have (PS3.5 section 9.1) is none."""
    stripped = value.rstrip(b"\0 ")
    return stripped.decode("latin-1") if len(stripped) <= UID_CEILING_BYTES else None


def decode_command(command_set: bytes) -> Command:
    """Of an element that is there twice the last counts; a US that is not two bytes long is as good as absent."""
    command = Command()
    for tag, value in split_elements(bytes(command_set)):
        if tag == AFFECTED_SOP_CLASS_UID:
            command.sop_class_uid = decode_uid(value)
        elif tag == AFFECTED_SOP_INSTANCE_UID:
            command.sop_instance_uid = decode_uid(value)
        elif len(value) == 2:
            (number,) = struct.unpack("<H", value)
            if tag == COMMAND_FIELD:
                command.command_field = number
            elif tag == MESSAGE_ID:
                command.message_id = number
            elif tag == COMMAND_DATA_SET_TYPE:
                command.has_data_set = number != NO_DATA_SET
    return command


def encode_elements(elements: dict[tuple[int, int], bytes]) -> bytes:
    """An implicit VR little endian command set with its group length in front (PS3.7 section 6.3.1, E.1)."""
    body = b"".join(struct.pack("<HHL", *tag, len(value)) + value for tag, value in sorted(elements.items()))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def even(text: str, pad: bytes) -> bytes:
    value = text.encode("latin-1")
    return value + pad if len(value) % 2 else value


def encode_store_request(
    *,
    message_id: int | None = 1,
    sop_class_uid: str | None = "1.2.840.10008.5.1.4.1.1.2",
    sop_instance_uid: str | None = "1.2.3.4",
    has_data_set: bool = True,
) -> bytes:
    """A C-STORE-RQ command set (PS3.7 table 9.3-1); a field that is None is left out."""
    elements = {
        COMMAND_FIELD: struct.pack("<H", C_STORE_RQ),
        (0x0000, 0x0700): struct.pack("<H", 0),
        COMMAND_DATA_SET_TYPE: struct.pack("<H", 0x0000 if has_data_set else NO_DATA_SET),
    }
    if message_id is not None:
        elements[MESSAGE_ID] = struct.pack("<H", message_id)
    if sop_class_uid is not None:
        elements[AFFECTED_SOP_CLASS_UID] = even(sop_class_uid, b"\0")
    if sop_instance_uid is not None:
        elements[AFFECTED_SOP_INSTANCE_UID] = even(sop_instance_uid, b"\0")
    return encode_elements(elements)


def encode_echo_request(message_id: int) -> bytes:
    """A C-ECHO-RQ command set (PS3.7 table 9.3-12)."""
    return encode_elements(
        {
            AFFECTED_SOP_CLASS_UID: even("1.2.840.10008.1.1", b"\0"),
            COMMAND_FIELD: struct.pack("<H", 0x0030),
            MESSAGE_ID: struct.pack("<H", message_id),
            COMMAND_DATA_SET_TYPE: struct.pack("<H", NO_DATA_SET),
        }
    )


def encode_store_response_command(
    *,
    message_id: int,
    sop_class_uid: str,
    sop_instance_uid: str,
    status: int,
    error_comment: str = "",
    offending_element: int = 0,
) -> bytes:
    """A C-STORE-RSP command set (PS3.7 table 9.3-2)."""
    elements = {
        AFFECTED_SOP_CLASS_UID: even(sop_class_uid, b"\0"),
        COMMAND_FIELD: struct.pack("<H", C_STORE_RSP),
        MESSAGE_ID_RESPONDED_TO: struct.pack("<H", message_id),
        COMMAND_DATA_SET_TYPE: struct.pack("<H", NO_DATA_SET),
        STATUS: struct.pack("<H", status),
        AFFECTED_SOP_INSTANCE_UID: even(sop_instance_uid, b"\0"),
    }
    if offending_element:
        elements[OFFENDING_ELEMENT] = struct.pack("<HH", offending_element >> 16, offending_element & 0xFFFF)
    if error_comment:
        elements[ERROR_COMMENT] = even(error_comment[:64], b" ")
    return encode_elements(elements)
