"""The few command elements that C-STORE needs (PS3.7 sections 9.3.1 and 6.3).

Enters: a command set. Leaves: its fields, or an encoded response. Never: a decision about either.
"""

from typing import final

from typing_extensions import Buffer

COMMAND_SET_CEILING_BYTES: int
"""Longest command set that is read, 16 KiB. The longest that the standard allows for C-STORE is under 400 bytes."""

@final
class Command:
    """The elements of a command set that are looked at. A value is None where the element is absent."""

    command_field: int | None
    message_id: int | None
    has_data_set: bool
    sop_class_uid: str | None
    sop_instance_uid: str | None

def decode_command(command_set: Buffer) -> Command:
    """Decode an implicit VR little endian command set. Raises ProtocolError where a length does not fit."""

def encode_store_response(
    *,
    context_id: int,
    message_id: int,
    sop_class_uid: str,
    sop_instance_uid: str,
    status: int,
    error_comment: str = "",
    offending_element: int = 0,
    max_pdu_bytes: int = 0,
) -> bytes:
    """A C-STORE-RSP as P-DATA-TF PDUs ready to send (PS3.7 table 9.3-2, PS3.8 section 9.3.5).

    Args:
        error_comment: (0000,0902), ASCII, cut at 64 characters; left out where empty.
        offending_element: a tag as 0xGGGGEEEE for (0000,0901); left out where 0.
        max_pdu_bytes: the peer's maximum length; 0 means no limit. The command is split over PDUs where it must be.
    """
