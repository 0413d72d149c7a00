"""UIDs that are missing, wrong, unsafe or merely odd, in every encoding (PS3.5 section 9.1, PS3.4 table B.2-1).

Enters: data sets. Leaves: files under UIDs, or a failure status that says what was wrong. Never: a file outside the store.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import SERIES_UID, SOP_CLASS, SOP_INSTANCE, STUDY_UID, Made, element, make, new_uid
from tests.peers.encoding import Context
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu, Response
from tests.peers.server import FastScp

pytestmark = pytest.mark.requires_linux  # what is held is counted in /proc

MISMATCH, CANNOT_UNDERSTAND = 0xA900, 0xC000
UNKNOWN_SYNTAX = "1.2.826.0.1.3680043.10.9999.5"


def send(receiver: FastScp, made: Made, transfer_syntax: str = enc.EXPLICIT_LE, *, command_instance: str | None = None) -> Response:
    """Send over an association of its own. The next message on it has to be served, whatever came of this one."""
    with RawScu(receiver.port) as scu:
        scu.associate([Context(1, made.sop_class or enc.CT_IMAGE, (transfer_syntax,)), Context(3, enc.VERIFICATION)])
        sop_instance = made.sop_instance if command_instance is None else command_instance
        response = scu.store(made.sop_class or enc.CT_IMAGE, sop_instance, made.data_set, message_id=77)
        assert response.message_id == 77
        assert scu.echo(3).status == 0
        scu.release()
    return response


def assert_refused(receiver: FastScp, response: Response, status: int, tag: int | None, files_before: set[str]) -> None:
    assert f"{response.status:04X}" == f"{status:04X}", response.comment
    assert 0 < len(response.comment) <= 64
    if tag is not None:
        assert [f"{each:08X}" for each in response.offending_elements] == [f"{tag:08X}"]
    assert set(receiver.stored_files()) == files_before
    assert [path.name for path in receiver.store.parent.iterdir()] == [receiver.store.name]


ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "implicit": (enc.IMPLICIT_LE, {"explicit": False}),
    "explicit": (enc.EXPLICIT_LE, {}),
    "big endian": (enc.EXPLICIT_BE, {"little": False}),
    "deflated": (enc.DEFLATED_LE, {"deflated": True}),
    "unknown, which is explicit": (UNKNOWN_SYNTAX, {}),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_identifiers_are_found_in_every_encoding(receiver: FastScp, encoding: str) -> None:
    transfer_syntax, options = ENCODINGS[encoding]
    made = make(**options)
    assert send(receiver, made, transfer_syntax).status == 0
    assert read_part10(receiver.store / made.relative_path).data_set == made.data_set


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("field", "tag"), [("study", STUDY_UID), ("series", SERIES_UID), ("sop_instance", SOP_INSTANCE)], ids=["study", "series", "instance"]
)
def test_a_missing_uid(receiver: FastScp, encoding: str, field: str, tag: int) -> None:
    transfer_syntax, options = ENCODINGS[encoding]
    before = set(receiver.stored_files())
    made = make(**options | {field: None})
    response = send(receiver, made, transfer_syntax, command_instance=made.sop_instance or new_uid())
    assert_refused(receiver, response, CANNOT_UNDERSTAND, tag, before)


def test_a_missing_sop_class(receiver: FastScp) -> None:
    before = set(receiver.stored_files())
    assert_refused(receiver, send(receiver, make(sop_class=None)), MISMATCH, SOP_CLASS, before)


def test_another_sop_class_than_the_command_says(receiver: FastScp) -> None:
    before, made = set(receiver.stored_files()), make()
    other = Made(made.data_set, "1.2.840.10008.5.1.4.1.1.4", made.sop_instance, made.study, made.series)
    assert_refused(receiver, send(receiver, other), MISMATCH, SOP_CLASS, before)


def test_another_sop_instance_than_the_command_says(receiver: FastScp) -> None:
    before, made = set(receiver.stored_files()), make()
    assert_refused(receiver, send(receiver, made, command_instance=new_uid()), MISMATCH, SOP_INSTANCE, before)


UNSAFE = {
    "parent directory": "../../escaped",
    "parent directory alone": "..",
    "a dot": ".",
    "absolute": "/tmp/fastscp-escaped",
    "slash inside": "1.2/3",
    "backslash": "1.2\\3",
    "NUL inside": "1.2\x003",
    "newline": "1.2\n3",
    "letters": "1.2.abc",
    "not ascii": "1.2.\xb2",
    "dot at the start": ".1.2",
    "dot at the end": "1.2.",
    "space at the start": " 1.2",
    "space inside": "1.2 .3",
    "only padding": "  ",
    "65 characters": "1." + "2" * 63,
    "5000 characters": "1" * 5000,
    "a hidden name": ".incoming",
    "a shell": "$(reboot)",
}


@pytest.mark.parametrize("kind", UNSAFE)
@pytest.mark.parametrize(("field", "tag"), [("study", STUDY_UID), ("series", SERIES_UID)], ids=["study", "series"])
def test_a_uid_that_is_no_safe_name(receiver: FastScp, kind: str, field: str, tag: int) -> None:
    before = set(receiver.stored_files())
    uids: dict[str, Any] = {field: UNSAFE[kind]}
    assert_refused(receiver, send(receiver, make(**uids)), CANNOT_UNDERSTAND, tag, before)


@pytest.mark.parametrize("kind", UNSAFE)
def test_an_instance_uid_that_is_no_safe_name(receiver: FastScp, kind: str) -> None:
    """The same value stands in command and data set; which of them is named is the receiver's choice."""
    before = set(receiver.stored_files())
    assert_refused(receiver, send(receiver, make(sop_instance=UNSAFE[kind])), CANNOT_UNDERSTAND, None, before)


@pytest.mark.parametrize("uid", ["1.02.3", "1..2", "00", "1", "999.999.2.19941105.112000.2.107", "1." + "2" * 62])
def test_a_uid_that_is_odd_but_safe_is_stored(receiver: FastScp, uid: str) -> None:
    made = make(study=uid, series=uid, sop_instance=uid)
    assert send(receiver, made).status == 0
    assert (receiver.store / uid / uid / f"{uid}.dcm").is_file()


def test_a_uid_that_does_not_conform_is_counted(receiver: FastScp) -> None:
    before = receiver.metric("fastscp_nonconformant_uids_total")
    assert send(receiver, make(series="1.002.3")).status == 0
    assert receiver.metric("fastscp_nonconformant_uids_total") == before + 1


@pytest.mark.parametrize("padding", ["\0", " ", "\0\0\0", "  ", " \0", "\0 "])
def test_padding_is_not_part_of_a_uid(receiver: FastScp, padding: str) -> None:
    bare = make()
    made = make(study=bare.study + padding, series=bare.series + padding, sop_instance=bare.sop_instance + padding)
    for command_instance in (bare.sop_instance, bare.sop_instance + padding):
        assert send(receiver, made, command_instance=command_instance).status == 0
        stored = receiver.store / bare.relative_path
        assert read_part10(stored).data_set == made.data_set
        stored.unlink()


def long_private(size: int) -> tuple[int, str, bytes]:
    return (0x00090010, "UN", bytes(size))


def nested(depth: int) -> bytes:
    """A sequence of undefined length in a sequence of undefined length and so on, closed properly."""
    opening = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opening * depth + closing * depth


def with_head(made: Made, inserted: bytes) -> Made:
    """The made data set with bytes inserted before the first element of group 0020."""
    at = made.data_set.index(struct.pack("<HH", STUDY_UID >> 16, STUDY_UID & 0xFFFF))
    return Made(made.data_set[:at] + inserted + made.data_set[at:], made.sop_class, made.sop_instance, made.study, made.series)


@pytest.mark.parametrize("encoding", ["implicit", "explicit", "big endian"])
def test_identifiers_behind_five_megabytes(receiver: FastScp, encoding: str) -> None:
    transfer_syntax, options = ENCODINGS[encoding]
    made = make(extra=[long_private(5_000_000)], **options)
    assert send(receiver, made, transfer_syntax).status == 0
    assert read_part10(receiver.store / made.relative_path).data_set == made.data_set


@pytest.mark.parametrize("depth", [1, 5])
def test_identifiers_behind_nested_sequences(receiver: FastScp, depth: int) -> None:
    made = with_head(make(), nested(depth))
    assert send(receiver, made).status == 0
    assert read_part10(receiver.store / made.relative_path).data_set == made.data_set


def test_a_hundred_thousand_nested_sequences(receiver: FastScp) -> None:
    """Stored or refused: no crash, no recursion."""
    made = with_head(make(), nested(100_000))
    assert send(receiver, made).status in (0, CANNOT_UNDERSTAND)


_HEAD = element(SOP_CLASS, "UI", b"1.2.840.10008.5.1.4.1.1.2\0") + element(SOP_INSTANCE, "UI", b"1.2.3.77")
MALFORMED = {
    "nothing": b"",
    "one byte": b"\x08",
    "text": b"this is no data set at all, only text" * 4,
    "ends inside an element header": _HEAD + b"\x20\x00\x0d",
    "ends inside a value": _HEAD + element(STUDY_UID, "UI", b"1.2.3", length=60),
    "a length of 4 GB": _HEAD + element(0x00090010, "UN", b"x", length=0xFFFFFFF0),
    "a sequence without end": _HEAD + element(0x00081140, "SQ", b"", length=0xFFFFFFFF),
    "a VR that is none": _HEAD + b"\x20\x00\x0d\x00\x01\x02\x04\x00abcd",
    "implicit where explicit was negotiated": make(explicit=False).data_set,
    "big endian where little endian was negotiated": make(little=False).data_set,
}


@pytest.mark.parametrize("transfer_syntax", [enc.EXPLICIT_LE, UNKNOWN_SYNTAX])
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_head_that_does_not_parse(receiver: FastScp, kind: str, transfer_syntax: str) -> None:
    before = set(receiver.stored_files())
    made = Made(MALFORMED[kind], enc.CT_IMAGE, "1.2.3.77", "", "")
    assert_refused(receiver, send(receiver, made, transfer_syntax), CANNOT_UNDERSTAND, None, before)


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


DEFLATE_BOMBS = {
    "200 MB of zeros before the UIDs": deflate(
        with_head(make(sop_instance="1.2.3.77"), element(0x00090010, "UN", bytes(200_000_000))).data_set
    ),
    "not deflated": make().data_set,
    "cut off": deflate(make().data_set)[:20],
    "random": bytes(range(256)) * 4,
    "nothing": b"",
}


@pytest.mark.parametrize("kind", DEFLATE_BOMBS)
def test_a_deflated_data_set_that_hides_its_head(receiver: FastScp, kind: str) -> None:
    before, memory = set(receiver.stored_files()), receiver.resident_peak_bytes()
    made = Made(DEFLATE_BOMBS[kind], enc.CT_IMAGE, "1.2.3.77", "", "")
    assert_refused(receiver, send(receiver, made, enc.DEFLATED_LE), CANNOT_UNDERSTAND, None, before)
    assert receiver.resident_peak_bytes() - memory < 64 * 2**20
