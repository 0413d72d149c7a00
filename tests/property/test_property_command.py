"""Command sets and file meta: against the reference, and against pynetdicom and pydicom in both directions.

Enters: drawn fields and damaged command sets. Leaves: what pynetdicom and pydicom say is in them. Never: only its own word for it.
"""

import struct
from io import BytesIO

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from fastscp._ext import pdu
from fastscp._ext.dimse import COMMAND_SET_CEILING_BYTES, decode_command, encode_store_response
from fastscp._ext.file_meta import encode_file_meta
from fastscp._ext.memory import BufferPool
from fastscp.errors import ProtocolError
from reference import reference_dimse, reference_part10
from reference.driving import CONTEXTS, IMPLEMENTATION, SOURCE_AE_TITLE, native_reader
from reference.strategies import damaged, store_context_ids, uid_texts, uids

FIELDS = ("command_field", "message_id", "has_data_set", "sop_class_uid", "sop_instance_uid")
full_uids = st.one_of(uids, st.just("1." + "2" * 62))
message_ids = st.integers(0, 0xFFFF)
# Without a backslash, which would part an LO into two values.
comments = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=80)
peer_limits = st.one_of(st.just(0), st.integers(8, 400), st.integers(1, 1 << 20))


@st.composite
def command_sets(draw: st.DrawFn) -> bytes:
    elements = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0x0000, 0x0002, 0x0100, 0x0110, 0x0120, 0x0800, 0x0900, 0x1000, 0x1030]),
                st.one_of(st.binary(max_size=4), st.integers(0, 0xFFFF).map(lambda n: struct.pack("<H", n)), uid_texts.map(str.encode)),
            ),
            max_size=10,
        )
    )
    return b"".join(struct.pack("<HHL", draw(st.sampled_from([0, 0, 0, 8])), number, len(value)) + value for number, value in elements)


@given(st.one_of(command_sets(), damaged(command_sets()), st.binary(max_size=40)))
def test_a_command_set_says_what_the_reference_reads(command_set: bytes) -> None:
    try:
        expected = reference_dimse.decode_command(command_set)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            decode_command(command_set)
        return
    found = decode_command(command_set)
    assert [getattr(found, name) for name in FIELDS] == [getattr(expected, name) for name in FIELDS]


def test_the_ceiling_is_that_of_the_contract() -> None:
    assert COMMAND_SET_CEILING_BYTES == reference_dimse.COMMAND_SET_CEILING_BYTES == 16384


@given(store_context_ids, message_ids, uids, uids, st.binary(min_size=1, max_size=200), st.integers(16, 200))
def test_a_request_of_pynetdicom_is_understood(
    context_id: int, message_id: int, sop_class: str, sop_instance: str, data_set: bytes, max_pdu_bytes: int
) -> None:
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop_instance
    request.Priority = 2
    request.MoveOriginatorApplicationEntityTitle = "MOVER"
    request.MoveOriginatorMessageID = 7
    request.DataSet = BytesIO(data_set)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    stream = b""
    for primitive in message.encode_msg(context_id, max_pdu_bytes):
        data = P_DATA_TF()
        data.from_primitive(primitive)
        stream += data.encode()
    reader = native_reader(BufferPool(1 << 26))
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    instance = reader.take_instance()
    assert (instance.context_id, instance.message_id) == (context_id, message_id)
    assert (instance.sop_class_uid, instance.sop_instance_uid) == (sop_class, sop_instance)
    file = b"".join(instance.segments())
    assert file[instance.file_meta_bytes :] == data_set
    file_meta = encode_file_meta(sop_class, sop_instance, CONTEXTS[context_id], SOURCE_AE_TITLE, **IMPLEMENTATION)
    assert file[: instance.file_meta_bytes] == file_meta


def split_pdus(stream: bytes) -> list[bytes]:
    pdus = []
    while stream:
        (length,) = struct.unpack_from(">L", stream, 2)
        pdus.append(stream[: 6 + length])
        stream = stream[6 + length :]
    return pdus


@given(
    st.integers(0, 127).map(lambda half: 2 * half + 1),
    message_ids,
    full_uids,
    full_uids,
    st.sampled_from([0x0000, 0xA700, 0xA900, 0xC000, 0x0117, 0xB000]),
    comments,
    st.sampled_from([0, 0x0020000D, 0x00080018]),
    peer_limits,
)
def test_a_response_is_what_pynetdicom_reads(
    context_id: int, message_id: int, sop_class: str, sop_instance: str, status: int, comment: str, offending: int, limit_bytes: int
) -> None:
    fields = {"message_id": message_id, "sop_class_uid": sop_class, "sop_instance_uid": sop_instance, "status": status}
    more = {"error_comment": comment, "offending_element": offending}
    stream = encode_store_response(context_id=context_id, max_pdu_bytes=limit_bytes, **fields, **more)
    command = b""
    message = C_STORE_RSP()
    complete = []
    for data in split_pdus(stream):
        if limit_bytes >= 8:
            assert len(data) - 6 <= limit_bytes
        assert len(data) % 2 == 0
        command += data[12:]
        tf = P_DATA_TF()
        tf.decode(data)
        complete.append(message.decode_msg(tf.to_primitive()))
    assert complete == [False] * (len(complete) - 1) + [True]
    assert command == reference_dimse.encode_store_response_command(**fields, **more)
    if limit_bytes == 0 or limit_bytes >= len(command) + 6:
        assert len(complete) == 1
    response = message.message_to_primitive()
    assert message.context_id == context_id
    assert response.MessageIDBeingRespondedTo == message_id
    assert response.AffectedSOPClassUID == sop_class
    assert response.AffectedSOPInstanceUID == sop_instance
    assert response.Status == status
    assert message.command_set.get("ErrorComment", "").rstrip(" ") == comment[:64].rstrip(" ")
    assert message.command_set.get("OffendingElement", 0) == offending


@pytest.mark.parametrize("field", ["sop_class_uid", "sop_instance_uid"])
def test_a_uid_longer_than_64_characters_is_not_answered_with(field: str) -> None:
    fields = {"sop_class_uid": "1.2", "sop_instance_uid": "1.2", field: "1." + "2" * 63}
    with pytest.raises(ValueError):
        encode_store_response(context_id=1, message_id=1, status=0, **fields)


META = (
    "sop_class_uid",
    "sop_instance_uid",
    "transfer_syntax_uid",
    "source_ae_title",
    "implementation_class_uid",
    "implementation_version_name",
)
titles = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16)


@given(full_uids, full_uids, full_uids, titles, full_uids, titles)
def test_file_meta_is_what_pydicom_reads(
    sop_class: str, sop_instance: str, syntax: str, title: str, implementation: str, version: str
) -> None:
    fields = dict(zip(META, (sop_class, sop_instance, syntax, title, implementation, version), strict=True))
    encoded = encode_file_meta(**fields)
    assert encoded == reference_part10.encode_file_meta(**fields)
    meta = pydicom.dcmread(BytesIO(encoded)).file_meta
    assert meta.FileMetaInformationGroupLength == len(encoded) - 144
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.MediaStorageSOPClassUID == sop_class
    assert meta.MediaStorageSOPInstanceUID == sop_instance
    assert meta.TransferSyntaxUID == syntax
    assert meta.SourceApplicationEntityTitle == title
    assert meta.ImplementationClassUID == implementation
    assert meta.ImplementationVersionName == version
    assert len(meta) == 8


@pytest.mark.parametrize("name", META)
def test_file_meta_has_ceilings(name: str) -> None:
    ceiling = 64 if name.endswith("_uid") else 16
    fields = dict.fromkeys(META, "1")
    assert encode_file_meta(**fields | {name: "1" * ceiling}) == reference_part10.encode_file_meta(**fields | {name: "1" * ceiling})
    with pytest.raises(ValueError):
        encode_file_meta(**fields | {name: "1" * (ceiling + 1)})
    with pytest.raises(ValueError):
        encode_file_meta(**fields | {name: "\u00e9"})
