"""DICOM upper layer and DIMSE messages as bytes, written from PS3.8 section 9.3 and PS3.7 sections 6.3 and 9.

Enters: values, right or wrong. Leaves: the bytes that say them. Never: a correction of what a test asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

AFFECTED_SOP_CLASS, COMMAND_FIELD, MESSAGE_ID, MESSAGE_ID_RESPONDED = 0x00000002, 0x00000100, 0x00000110, 0x00000120
PRIORITY, DATA_SET_TYPE, STATUS, OFFENDING_ELEMENT = 0x00000700, 0x00000800, 0x00000900, 0x00000901
ERROR_COMMENT, AFFECTED_SOP_INSTANCE = 0x00000902, 0x00001000

RELEASE_RQ_PDU = struct.pack(">BBLL", RELEASE_RQ, 0, 4, 0)
RELEASE_RP_PDU = struct.pack(">BBLL", RELEASE_RP, 0, 4, 0)
ABORT_PDU = struct.pack(">BBLBBBB", ABORT, 0, 4, 0, 0, 0, 0)


@dataclass(frozen=True)
class Context:
    """A presentation context as proposed, PS3.8 section 9.3.2.2."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...] = (EXPLICIT_LE,)


def pdu(pdu_type: int, body: bytes) -> bytes:
    return struct.pack(">BBL", pdu_type, 0, len(body)) + body


def item(item_type: int, body: bytes) -> bytes:
    return struct.pack(">BBH", item_type, 0, len(body)) + body


def associate_rq(
    contexts: Sequence[Context],
    *,
    called: bytes = b"FASTSCP",
    calling: bytes = b"RAWSCU",
    protocol_version: int = 1,
    max_pdu_bytes: int = 16384,
    user_items: bytes = b"",
    application_context: str = APPLICATION_CONTEXT,
) -> bytes:
    """An A-ASSOCIATE-RQ PDU. AE titles are padded with spaces to 16 bytes, not checked."""
    body = struct.pack(">HH", protocol_version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    body += item(0x10, application_context.encode())
    for context in contexts:
        syntaxes = b"".join(item(0x40, uid.encode("latin-1")) for uid in context.transfer_syntaxes)
        body += item(0x20, bytes([context.id, 0, 0, 0]) + item(0x30, context.abstract_syntax.encode("latin-1")) + syntaxes)
    body += item(0x50, item(0x51, struct.pack(">L", max_pdu_bytes)) + item(0x52, b"1.2.826.0.1.3680043.10.9999") + user_items)
    return pdu(ASSOCIATE_RQ, body)


def pdv(context_id: int, payload: bytes, *, command: bool, last: bool) -> bytes:
    """A presentation data value item, PS3.8 section 9.3.5.1 and annex E.2."""
    return struct.pack(">LBB", len(payload) + 2, context_id, command | last << 1) + payload


def command_set(elements: Sequence[tuple[int, bytes]]) -> bytes:
    """An implicit VR little endian command set with its group length, PS3.7 section 6.3."""
    body = b"".join(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value for tag, value in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def padded(uid: str) -> bytes:
    """A UID as a value: of even length, padded with NUL (PS3.5 section 9.1)."""
    value = uid.encode("latin-1")
    return value + bytes(len(value) % 2)


def ushort(value: int) -> bytes:
    return struct.pack("<H", value)


def store_command(sop_class: str, sop_instance: str, message_id: int = 1) -> bytes:
    """A C-STORE-RQ command set, PS3.7 table 9.3-1."""
    return command_set(
        [
            (AFFECTED_SOP_CLASS, padded(sop_class)),
            (COMMAND_FIELD, ushort(0x0001)),
            (MESSAGE_ID, ushort(message_id)),
            (PRIORITY, ushort(0)),
            (DATA_SET_TYPE, ushort(0)),
            (AFFECTED_SOP_INSTANCE, padded(sop_instance)),
        ]
    )


def echo_command(message_id: int = 1) -> bytes:
    """A C-ECHO-RQ command set, PS3.7 table 9.3-12."""
    return command_set(
        [
            (AFFECTED_SOP_CLASS, padded(VERIFICATION)),
            (COMMAND_FIELD, ushort(0x0030)),
            (MESSAGE_ID, ushort(message_id)),
            (DATA_SET_TYPE, ushort(0x0101)),
        ]
    )


def pieces(payload: bytes, size: int | None, *, empty_last: bool = False) -> list[bytes]:
    """`payload` in pieces of `size` bytes (None: one piece), with an empty piece at the end on request."""
    size = size or max(len(payload), 1)
    cut = [payload[at : at + size] for at in range(0, len(payload), size)]
    return [*cut, b""] if empty_last or not cut else cut


def message_pdus(
    context_id: int,
    command: bytes,
    data_set: bytes | None,
    *,
    command_pdv_bytes: int | None = None,
    data_pdv_bytes: int | None = 16376,
    pdvs_per_pdu: int = 1,
    empty_last: bool = False,
) -> Iterator[bytes]:
    """The P-DATA-TF PDUs of one message, cut as asked.

    Args:
        command_pdv_bytes, data_pdv_bytes: payload of each PDV; None for one PDV with all of it.
        pdvs_per_pdu: how many PDVs stand in one PDU; the last PDV of the command and the first of the data set may share one.
        empty_last: ends command and data set with a PDV without payload.
    """
    commands = pieces(command, command_pdv_bytes, empty_last=empty_last)
    pdvs = [pdv(context_id, piece, command=True, last=at == len(commands) - 1) for at, piece in enumerate(commands)]
    if data_set is not None:
        parts = pieces(data_set, data_pdv_bytes, empty_last=empty_last)
        pdvs += [pdv(context_id, piece, command=False, last=at == len(parts) - 1) for at, piece in enumerate(parts)]
    for at in range(0, len(pdvs), pdvs_per_pdu):
        yield pdu(P_DATA, b"".join(pdvs[at : at + pdvs_per_pdu]))
