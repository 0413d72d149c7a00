"""What a peer sends, as bytes (PS3.8 section 9.3, annex E).

Enters: fields. Leaves: PDUs and PDVs. Never: refuses to write what is wrong, so that tests can.
"""

import struct
from collections.abc import Iterable, Sequence

from reference.reference_dimse import encode_echo_request, encode_elements, encode_store_request, even
from reference.reference_pdu import COMMAND_BIT, LAST_BIT

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

RELEASE_RQ = bytes.fromhex("05 00 00000004 00000000")
RELEASE_RP = bytes.fromhex("06 00 00000004 00000000")
ABORT = bytes.fromhex("07 00 00000004 0000 02 00")


def pdv(context_id: int, fragment: bytes, *, command: bool, last: bool) -> bytes:
    control = (COMMAND_BIT if command else 0) | (LAST_BIT if last else 0)
    return struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment


def pdu(pdu_type: int, body: bytes) -> bytes:
    return struct.pack(">BBL", pdu_type, 0, len(body)) + body


def p_data(*pdvs: bytes) -> bytes:
    return pdu(0x04, b"".join(pdvs))


def fragments(context_id: int, data: bytes, sizes: Iterable[int], *, command: bool, zero_last: bool = False) -> list[bytes]:
    """PDVs of `data`, cut at `sizes` in turn (what is left goes into one more), with an empty last fragment where asked for."""
    pieces = []
    offset = 0
    for size in sizes:
        if offset + size >= len(data):
            break
        pieces.append(data[offset : offset + size])
        offset += size
    pieces.append(data[offset:])
    if zero_last:
        pieces.append(b"")
    return [pdv(context_id, piece, command=command, last=index == len(pieces) - 1) for index, piece in enumerate(pieces)]


def packed(pdvs: Sequence[bytes], per_pdu: Iterable[int]) -> bytes:
    """The PDVs in P-DATA-TF PDUs, so many in each; once `per_pdu` is used up, one in each."""
    out = []
    offset = 0
    counts = iter(per_pdu)
    while offset < len(pdvs):
        count = max(1, next(counts, 1))
        out.append(p_data(*pdvs[offset : offset + count]))
        offset += count
    return b"".join(out)


def store(context_id: int, data_set: bytes, *, message_id: int = 1, pdv_bytes: int = 16378, sop_instance_uid: str = "1.2.3.4") -> bytes:
    """A C-STORE-RQ as an ordinary SCU sends it: command in one PDU, data set in PDUs of one PDV each."""
    command = encode_store_request(message_id=message_id, sop_instance_uid=sop_instance_uid)
    pdvs = fragments(context_id, command, [], command=True)
    pdvs += fragments(context_id, data_set, [pdv_bytes] * (len(data_set) // pdv_bytes), command=False)
    return packed(pdvs, [])


def echo(context_id: int, message_id: int = 1) -> bytes:
    return p_data(pdv(context_id, encode_echo_request(message_id), command=True, last=True))


def element(group: int, number: int, vr: bytes, value: bytes, *, explicit_vr: bool = True, little_endian: bool = True) -> bytes:
    """One data element (PS3.5 section 7.1). `value` is written as it is."""
    order = "<" if little_endian else ">"
    tag = struct.pack(order + "HH", group, number)
    if not explicit_vr:
        return tag + struct.pack(order + "L", len(value)) + value
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OF", b"OD", b"OL", b"OV", b"SV", b"UV"):
        return tag + vr + b"\0\0" + struct.pack(order + "L", len(value)) + value
    return tag + vr + struct.pack(order + "H", len(value)) + value


def data_set(
    *,
    sop_class_uid: str = CT_IMAGE_STORAGE,
    sop_instance_uid: str = "1.2.3.4",
    study_instance_uid: str = "1.2.3",
    series_instance_uid: str = "1.2.3.1",
    study_date: str = "20240229",
    pixels: bytes = b"",
    explicit_vr: bool = True,
    little_endian: bool = True,
) -> bytes:
    """A data set with the five identifying elements and a Pixel Data."""

    def one(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        return element(group, number, vr, value, explicit_vr=explicit_vr, little_endian=little_endian)

    return (
        one(0x0008, 0x0016, b"UI", even(sop_class_uid, b"\0"))
        + one(0x0008, 0x0018, b"UI", even(sop_instance_uid, b"\0"))
        + one(0x0008, 0x0020, b"DA", even(study_date, b" "))
        + one(0x0020, 0x000D, b"UI", even(study_instance_uid, b"\0"))
        + one(0x0020, 0x000E, b"UI", even(series_instance_uid, b"\0"))
        + one(0x7FE0, 0x0010, b"OW", pixels)
    )


def command_of(elements: dict[tuple[int, int], bytes]) -> bytes:
    return encode_elements(elements)
