"""Golden vectors: bytes whose meaning was worked out by hand, for the native code and for its reference alike.

Enters: annotated bytes. Leaves: what they mean. Never: an expectation that code has computed.
"""

from typing import Any

import pytest

from fastscp._ext import dimse, head, pdu
from fastscp._ext.memory import BufferPool
from reference import reference_dimse, reference_part10, traffic, vectors
from reference.driving import CONTEXTS, STORE_CONTEXT_IDS, Limits, ask_native, ask_reference, native_reader, pieces

HEADS = {
    "explicit little": ("1.2.840.10008.5.1.4.1.1.7", "1.2.3.4", "1.2.3", "1.2.3.1", "20240229"),
    "implicit little": ("1.2", "1.2.3.4", "1.2.3", "1.2.3.1", ""),
    "explicit big": ("1.2", "1.2.3.4", "1.2.3", "1.2.3.1", "20240229"),
}


def values(found: Any) -> tuple[str | None, ...]:
    return (found.sop_class_uid, found.sop_instance_uid, found.study_instance_uid, found.series_instance_uid, found.study_date)


@pytest.mark.parametrize("scan", [head.scan_head, reference_part10.scan_head], ids=["native", "reference"])
@pytest.mark.parametrize("name", HEADS)
def test_head(scan: Any, name: str) -> None:
    data, explicit_vr, little_endian = vectors.DATA_SETS[name]
    found = scan(data, explicit_vr=explicit_vr, little_endian=little_endian)
    assert values(found) == HEADS[name]
    assert (found.state, found.error_offset) == ("complete", -1)


@pytest.mark.parametrize("scan", [head.scan_head, reference_part10.scan_head], ids=["native", "reference"])
@pytest.mark.parametrize(
    ("data", "offset"),
    [
        ("0800 1600 4141", None),
        ("0800 1600 'UI' 0400 312E", None),
        ("0800 1600 0400 0000 312E3200", 0),
        ("0800 0500 4353 0000  FEFF 00E0 00000000", 8),
        ("0800 0500 4353 0000  0800 1600 5554 0000 FFFFFFFF", 8),
        ("0800 0100 5554 0000 FFFFFFFF 00000000 00000000", 0),
        ("0800 1511 5351 0000 FFFFFFFF  0800 0500 4353 0000", 12),
    ],
    ids=[
        "shorter than a header",
        "shorter than its value",
        "no VR",
        "an item outside a sequence",
        "undefined length of an identifying element",
        "undefined length of a VR that cannot have it",
        "an element where an item is due",
    ],
)
def test_head_of_what_is_no_data_set(scan: Any, data: str, offset: int | None) -> None:
    found = scan(vectors.octets(data.replace("'", '"')), explicit_vr=True, little_endian=True)
    assert found.state == ("incomplete" if offset is None else "malformed")
    assert offset is None or found.error_offset == offset


@pytest.mark.parametrize("decode", [dimse.decode_command, reference_dimse.decode_command], ids=["native", "reference"])
def test_command(decode: Any) -> None:
    command = decode(vectors.STORE_COMMAND)
    assert (command.command_field, command.message_id, command.has_data_set) == (0x0001, 519, True)
    assert (command.sop_class_uid, command.sop_instance_uid) == ("1.2.840.10008.5.1.4.1.1.7", "1.2.3.4")
    command = decode(vectors.ECHO_COMMAND)
    assert (command.command_field, command.message_id, command.has_data_set) == (0x0030, 1, False)
    assert (command.sop_class_uid, command.sop_instance_uid) == ("1.2.840.10008.1.1", None)


def test_response() -> None:
    fields: dict[str, Any] = {"message_id": 519, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "sop_instance_uid": "1.2.3.4"}
    fields |= {"status": 0xC000, "error_comment": "why", "offending_element": 0x0020000D}
    assert dimse.encode_store_response(context_id=1, **fields) == vectors.STORE_RESPONSE
    assert reference_dimse.encode_store_response_command(**fields) == vectors.STORE_RESPONSE[12:]


def test_response_in_pdus_of_a_small_peer() -> None:
    """A maximum of 16 bytes holds a PDV header of 6 and 10 of the 126 bytes of the command."""
    fields: dict[str, Any] = {"message_id": 519, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "sop_instance_uid": "1.2.3.4"}
    fields |= {"status": 0xC000, "error_comment": "why", "offending_element": 0x0020000D}
    command = vectors.STORE_RESPONSE[12:]
    expected = b""
    for at in range(0, 120, 10):
        expected += vectors.octets("04 00 00000010 0000000C 01 01") + command[at : at + 10]
    expected += vectors.octets("04 00 0000000C 00000008 01 03") + command[120:]
    assert dimse.encode_store_response(context_id=1, max_pdu_bytes=16, **fields) == expected


@pytest.mark.parametrize("ask", [ask_native, ask_reference], ids=["native", "reference"])
@pytest.mark.parametrize("cut", ["whole", "one byte at a time"])
def test_conversation(ask: Any, cut: str) -> None:
    stream = vectors.ASSOCIATE_RQ + vectors.ECHO + vectors.STORE + vectors.RELEASE_RQ
    lines = ask(pieces(stream, range(len(stream)) if cut != "whole" else []))
    assert lines[0] == ("control", vectors.ASSOCIATE_RQ)
    assert lines[1] == ("message", 1, vectors.ECHO_COMMAND, b"")
    assert lines[2][:8] == ("store", 1, 519, "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4", "1.2.840.10008.1.2.1", None, 112)
    assert lines[2][8] == (*HEADS["explicit little"], "complete", None)
    assert lines[2][9] == vectors.STORE_FILE_META + vectors.EXPLICIT_LITTLE_DATA_SET
    assert lines[3:] == [("control", vectors.RELEASE_RQ), ("end", False)]


@pytest.mark.parametrize("ask", [ask_native, ask_reference], ids=["native", "reference"])
@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ("47", 1),
        ("16 03 01 02 00 01", 1),
        ("08 00 00000004 00000000", 1),
        ("05 00 00000005 0000000000", 6),
        ("01 00 00100001", 6),
        ("04 00 00018001", 6),
        ("04 00 00000005 00000001 01", 6),
        ("04 00 00000006 00000001 01 03", 6),
        ("04 00 00000006 00000003 01 03", 6),
        ("04 00 0000000B 00000002 01 01 00000003 01", 6),
        ("04 00 00000006 00000002 02 03", 6),
        ("04 00 00000006 00000002 01 02", 6),
        ("04 00 0000000C 00000002 01 01 00000002 03 01", 6),
        ("04 00 0000000E 0000000A 01 03 0000 0001 01000000", 6),
        ("04 00 0000000E 0000000A 01 03 0000 0001 0000000004 00 00000006 00000002 01 02", 6),
        ("04 00 00000010 0000000C 01 03 0000 0008 02000000 0000 04 00 00000006 00000002 01 03", 6),
        ("04 00 00000010 0000000C 01 03 0000 0001 02000000 0100", 6),
    ],
    ids=[
        "HTTP",
        "TLS",
        "no PDU type",
        "release of 5 bytes",
        "associate of more than 1 MiB",
        "P-DATA-TF of more than twice 16384 and 64 KiB",
        "P-DATA-TF without room for a PDV",
        "PDV of less than its own header",
        "PDV longer than its PDU",
        "rest of a PDU that holds no PDV",
        "context that was not accepted",
        "data set where a command is due",
        "message that changes its context",
        "command element longer than the command set",
        "data set after a command without one",
        "command where a data set is due",
        "C-STORE-RQ without a Message ID",
    ],
)
def test_broken_protocol(ask: Any, stream: str, reason: int) -> None:
    lines = ask([vectors.octets(stream)])
    assert lines[-1] == ("error", reason)


def test_p_data_before_the_association() -> None:
    assert ask_native([b"\x04"], established=False) == ask_reference([b"\x04"], established=False) == [("error", 2)]


def test_deflated() -> None:
    reader = native_reader(BufferPool(1 << 26), established=False)
    reader.establish(CONTEXTS | {9: "1.2.840.10008.1.2.1.99"}, STORE_CONTEXT_IDS | {9}, "STORESCU")
    command = vectors.STORE[:12].replace(b"\x01\x03", b"\x09\x03") + vectors.STORE_COMMAND
    # P-DATA-TF of 123 bytes, PDV of 119 bytes, context 9, last fragment of a data set
    stream = command + vectors.octets("04 00 0000007B 00000077 09 02") + vectors.DEFLATED_DATA_SET
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    instance = reader.take_instance()
    assert instance.deflated
    assert instance.transfer_syntax_uid == "1.2.840.10008.1.2.1.99"
    assert instance.head.state == "incomplete"
    assert values(instance.inflated_head(4096)) == values(instance.head) == HEADS["explicit little"]
    with pytest.raises(ValueError):
        instance.inflated_head(0)


# Ceilings, and one more.


def command_of(size: int) -> bytes:
    """A C-ECHO-RQ whose last element fills it up."""
    return vectors.ECHO_COMMAND + traffic.element(0x0000, 0x1FFF, b"", bytes(size - len(vectors.ECHO_COMMAND) - 8), explicit_vr=False)


@pytest.mark.parametrize("ask", [ask_native, ask_reference], ids=["native", "reference"])
@pytest.mark.parametrize("pdv_bytes", [1 << 16, 1000])
def test_a_command_set_of_16_kib_is_the_longest(ask: Any, pdv_bytes: int) -> None:
    for size, kind in ((16384, "message"), (16385, "error")):
        pdvs = traffic.fragments(1, command_of(size), [pdv_bytes] * (size // pdv_bytes), command=True)
        assert ask([traffic.packed(pdvs, [])])[0][0] == kind


@pytest.mark.parametrize("ask", [ask_native, ask_reference], ids=["native", "reference"])
def test_a_data_set_of_1_mib_is_the_longest_of_another_message(ask: Any) -> None:
    # C-FIND-RQ on a context that stores nothing.
    command = vectors.octets("0000 0001 02000000 2000  0000 0008 02000000 0000")
    for size, kind in ((1 << 20, "message"), ((1 << 20) + 1, "error")):
        pdvs = traffic.fragments(255, command, [], command=True) + traffic.fragments(
            255, bytes(size), [60_000] * (size // 60_000), command=False
        )
        (line, *_) = ask([traffic.packed(pdvs, [])])
        assert line[0] == kind
        assert kind == "error" or line[3] == bytes(size)


@pytest.mark.parametrize("ask", [ask_native, ask_reference], ids=["native", "reference"])
def test_an_associate_pdu_of_1_mib_is_the_longest(ask: Any) -> None:
    for size, kind in ((1 << 20, "control"), ((1 << 20) + 1, "error")):
        assert ask([traffic.pdu(1, bytes(size))], established=False)[0][0] == kind


@pytest.mark.parametrize("ask", [ask_native, ask_reference], ids=["native", "reference"])
def test_a_p_data_pdu_of_twice_the_maximum_and_64_kib_is_the_longest(ask: Any) -> None:
    ceiling = 2 * 16384 + 65536
    for size, kind in ((ceiling, "store"), (ceiling + 1, "error")):
        command = traffic.p_data(traffic.pdv(1, vectors.STORE_COMMAND, command=True, last=True))
        data = traffic.p_data(traffic.pdv(1, vectors.EXPLICIT_LITTLE_DATA_SET + bytes(size - 6 - 112), command=False, last=True))
        assert len(data) == size + 6
        assert ask([command + data])[0][0] == kind


@pytest.mark.parametrize("ask", [ask_native, ask_reference], ids=["native", "reference"])
def test_an_instance_over_its_ceiling_is_refused(ask: Any) -> None:
    for ceiling_bytes, refusal in ((112, None), (111, "too_large")):
        assert ask([vectors.STORE], Limits(max_instance_bytes=ceiling_bytes))[0][6] == refusal
