"""What both engines promise, at servers that verify checksums (our own) and signatures (rclone)."""

import itertools
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest

from fastscp.errors import ConfigError
from fastscp.stores.s3 import (
    AccessProblem,
    ChecksumMismatch,
    Engine,
    EngineError,
    NotFound,
    ObjectAttributes,
    PreconditionFailed,
    instance_attributes,
)
from fastscp.stores.s3.crc import crc64nvme_of, joined, to_base64
from tests.stores_s3.conftest import OpenEngine, Place
from tests.stores_s3.s3_server import S3Server

PLAIN = ObjectAttributes("application/dicom", {})
DEADLINE_S = 30.0
PART_BYTES = 5 << 20


def segments_of(size_bytes: int, segment_bytes: int = 65536) -> list[memoryview | bytes]:
    """Segments as a receiver has them: a short first one, equal ones, a rest."""
    view = memoryview(bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes].toreadonly()
    edges = [0, *range(min(374, size_bytes), size_bytes, segment_bytes), size_bytes]
    return [view[begin:end] for begin, end in itertools.pairwise(edges) if begin < end]


@pytest.mark.parametrize("size_bytes", [0, 1, 374, 65536, 524288, 3_000_001])
def test_an_object_is_what_was_put(engine: Engine, server: S3Server, size_bytes: int) -> None:
    segments = segments_of(size_bytes)
    result = engine.put("a/1.2.3.dcm", segments, attributes=PLAIN, deadline_s=DEADLINE_S)
    assert list(server.objects) == ["a/1.2.3.dcm"]
    stored = server.objects["a/1.2.3.dcm"]
    assert stored.body == b"".join(segments)
    assert (result.etag, result.crc64nvme_base64) == (stored.etag, stored.checksum)
    assert server.count("PutObject") == 1


@pytest.mark.parametrize("key", ["a b/\u00e4.dcm", "a%20b/c", "a~b#c?d&e+f=g;h,i'j(k)!*", "1.2..3/.4", "open/x.json"])
def test_a_key_is_the_same_whichever_engine_writes_or_reads_it(engine: Engine, server: S3Server, key: str) -> None:
    engine.put(key, [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert list(server.objects) == [key]
    assert engine.get_bytes(key, deadline_s=DEADLINE_S) == b"1"


def test_over_tls_the_payload_is_not_hashed_for_the_signature(engine: Engine, server: S3Server) -> None:
    engine.put("key", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    _, headers = server.requests[-1]
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert "expect" not in headers


def test_without_tls_the_payload_is_signed(open_at: OpenEngine, plain_server: S3Server) -> None:
    open_at(plain_server.url).put("key", [b"abc"], attributes=PLAIN, deadline_s=DEADLINE_S)
    _, headers = plain_server.requests[-1]
    assert headers["x-amz-content-sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "ae_title", ["CT1", " A  B ", "Ä€\N{SNOWMAN}", 'a"b\\c;,=%&', "\x01\r\nx-amz-acl: public-read", "\udcff", "R" * 16]
)
def test_any_ae_title_is_legal_metadata(engine: Engine, server: S3Server, ae_title: str) -> None:
    received_at = datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
    attributes = instance_attributes("FASTSCP", ae_title, received_at, "a1-7")
    engine.put("key", [b"1"], attributes=attributes, deadline_s=DEADLINE_S)
    headers = server.objects["key"].headers
    assert headers["content-type"] == "application/dicom"
    assert unquote(headers["x-amz-meta-calling-ae-title"], errors="surrogateescape") == ae_title
    assert headers["x-amz-meta-called-ae-title"] == "FASTSCP"
    assert headers["x-amz-meta-received-at"] == "2026-02-03T04:05:06.789+00:00"
    assert headers["x-amz-meta-association-id"] == "a1-7"
    assert "x-amz-acl" not in headers


def test_if_none_match_keeps_what_is_there(engine: Engine, server: S3Server) -> None:
    engine.put("key", [b"first"], attributes=PLAIN, deadline_s=DEADLINE_S, if_none_match=True)
    with pytest.raises(PreconditionFailed) as caught:
        engine.put("key", [b"second"], attributes=PLAIN, deadline_s=DEADLINE_S, if_none_match=True)
    assert not caught.value.may_be_ours
    assert server.objects["key"].body == b"first"
    engine.put("key", [b"third"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert server.objects["key"].body == b"third"


def test_encryption_and_owner_are_asked_for(open_at: OpenEngine, server: S3Server) -> None:
    engine = open_at(server.url, encryption="aws:kms", kms_key_id="alias/k", expected_bucket_owner=server.owner)
    engine.put("key", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    upload = engine.begin("parts", attributes=PLAIN, deadline_s=DEADLINE_S)
    upload.add_part([b"1"])
    upload.complete()
    for key in ("key", "parts"):
        headers = server.objects[key].headers
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/k"
        assert headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
    assert {headers.get("x-amz-expected-bucket-owner") for _, headers in server.requests} == {server.owner}
    aes = open_at(server.url, encryption="AES256")
    aes.put("aes", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert server.objects["aes"].headers["x-amz-server-side-encryption"] == "AES256"
    assert "x-amz-expected-bucket-owner" not in server.requests[-1][1]


def test_another_owners_bucket_is_refused(open_at: OpenEngine, server: S3Server) -> None:
    engine = open_at(server.url, expected_bucket_owner="999999999999")
    with pytest.raises(AccessProblem):
        engine.put("key", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    with pytest.raises(ConfigError, match="AccessDenied"):
        engine.check("", deadline_s=DEADLINE_S)
    assert server.objects == {}


def test_parts_become_one_object_with_the_checksum_of_the_whole(engine: Engine, server: S3Server) -> None:
    attributes = instance_attributes("A", "B", datetime.now(UTC), "a1")
    upload = engine.begin("big", attributes=attributes, deadline_s=DEADLINE_S)
    parts = [segments_of(PART_BYTES), segments_of(PART_BYTES + 7), segments_of(100)]
    for part in parts:
        upload.add_part(part)
        assert server.objects == {}
    result = upload.complete()
    whole = b"".join(segment for part in parts for segment in part)
    assert server.objects["big"].body == whole
    assert server.objects["big"].headers["x-amz-meta-calling-ae-title"] == "B"
    assert result == (server.objects["big"].etag, to_base64(crc64nvme_of([whole])))
    assert server.uploads == {}


def test_an_aborted_upload_leaves_nothing(engine: Engine, server: S3Server) -> None:
    upload = engine.begin("big", attributes=PLAIN, deadline_s=DEADLINE_S)
    upload.add_part(segments_of(PART_BYTES))
    upload.abort()
    assert server.objects == {}
    assert server.uploads == {}
    upload.abort()


def test_control_operations(engine: Engine, server: S3Server) -> None:
    keys = [f"open/{number}.json" for number in range(7)]
    for key in [*keys, "other/1"]:
        engine.put(key, [key.encode()], attributes=PLAIN, deadline_s=DEADLINE_S)
    listed = list(engine.list_keys("open/", deadline_s=DEADLINE_S))
    assert [entry.key for entry in listed] == keys
    assert [entry.size_bytes for entry in listed] == [len(key) for key in keys]
    assert listed[0].etag == server.objects[keys[0]].etag
    assert listed[0].modified_s == int(server.objects[keys[0]].modified_s), "S3 lists whole seconds"
    assert server.count("ListObjectsV2") == 3
    assert engine.get_bytes("open/3.json", deadline_s=DEADLINE_S) == b"open/3.json"
    engine.delete("open/3.json", deadline_s=DEADLINE_S)
    engine.delete("open/3.json", deadline_s=DEADLINE_S)
    with pytest.raises(NotFound):
        engine.get_bytes("open/3.json", deadline_s=DEADLINE_S)


def test_the_check_leaves_nothing(engine: Engine, server: S3Server) -> None:
    engine.check("prefix", deadline_s=DEADLINE_S)
    assert server.objects == {}
    assert server.uploads == {}
    assert [operation for operation, _ in server.requests] == ["CreateMultipartUpload", "AbortMultipartUpload"]


def test_at_a_server_that_verifies_signatures(open_at: OpenEngine, rclone: Place) -> None:
    engine = open_at(rclone.url, ca_bundle=rclone.ca_bundle)
    engine.check("prefix", deadline_s=DEADLINE_S)
    attributes = instance_attributes("A", " b ", datetime.now(UTC), "a1")
    segments = segments_of(524288)
    engine.put("prefix/a/1.dcm", segments, attributes=attributes, deadline_s=DEADLINE_S)
    assert engine.get_bytes("prefix/a/1.dcm", deadline_s=DEADLINE_S) == b"".join(segments)
    upload = engine.begin("prefix/a/2.dcm", attributes=attributes, deadline_s=DEADLINE_S)
    upload.add_part(segments_of(PART_BYTES))
    upload.add_part(segments)
    upload.complete()
    assert [(e.key, e.size_bytes) for e in engine.list_keys("prefix/a/", deadline_s=DEADLINE_S)] == [
        ("prefix/a/1.dcm", 524288),
        ("prefix/a/2.dcm", PART_BYTES + 524288),
    ]
    gone = engine.begin("prefix/a/3.dcm", attributes=attributes, deadline_s=DEADLINE_S)
    gone.add_part(segments)
    gone.abort()
    for key in ("prefix/a/1.dcm", "prefix/a/2.dcm"):
        engine.delete(key, deadline_s=DEADLINE_S)
    assert list(engine.list_keys("prefix/", deadline_s=DEADLINE_S)) == []


def test_a_wrong_secret_is_refused(open_at: OpenEngine, rclone: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-of-the-usual-length-0000000")
    engine = open_at(rclone.url, ca_bundle=rclone.ca_bundle)
    with pytest.raises(AccessProblem):
        engine.put("key", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    with pytest.raises(ConfigError, match="--store"):
        engine.check("", deadline_s=DEADLINE_S)


def test_a_missing_bucket_is_a_configuration_error(open_at: OpenEngine, server: S3Server) -> None:
    engine = open_at(server.url, bucket="another")
    with pytest.raises(ConfigError, match="NoSuchBucket"):
        engine.check("", deadline_s=DEADLINE_S)
    with pytest.raises(AccessProblem) as caught:
        engine.put("key", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert caught.value.code == "NoSuchBucket"


def test_the_endpoint_of_the_environment_is_used(open_at: OpenEngine, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    engine = open_at(None)
    engine.put("key", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    engine.check("", deadline_s=DEADLINE_S)
    assert list(server.objects) == ["key"]


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_an_endpoint_that_was_given_beats_the_environments(
    open_at: OpenEngine, server: S3Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "https://127.0.0.1:1")
    monkeypatch.setenv("AWS_BUCKET", "another")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    open_at(server.url).put("key", [b"1"], attributes=PLAIN, deadline_s=1.0)
    assert list(server.objects) == ["key"]


def test_a_certificate_of_another_authority_is_refused(open_at: OpenEngine, server: S3Server) -> None:
    engine = open_at(server.url, ca_bundle=None)
    with pytest.raises(EngineError):
        engine.put("key", [b"1"], attributes=PLAIN, deadline_s=1.0)
    with pytest.raises(ConfigError, match="CertificateRejected"):
        engine.check("", deadline_s=1.0)
    assert server.requests == []


def test_without_credentials_there_is_no_engine(open_at: OpenEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="credentials"):
        open_at("https://127.0.0.1:1")


def test_the_checksum_is_the_one_of_the_standard() -> None:
    assert crc64nvme_of([b"123456789"]) == 0xAE8B14860A799888
    assert crc64nvme_of([memoryview(b"1234"), b"", b"56789"]) == 0xAE8B14860A799888


@pytest.mark.parametrize("at", [0, 1, 4, 8, 9])
def test_the_checksums_of_parts_make_that_of_the_whole(at: int) -> None:
    first, second = b"123456789"[:at], b"123456789"[at:]
    assert joined(crc64nvme_of([first]), crc64nvme_of([second]), len(second)) == 0xAE8B14860A799888
    assert to_base64(0xAE8B14860A799888) == "rosUhgp5mIg="


def test_other_bytes_than_were_hashed_are_no_object(engine: Engine, server: S3Server) -> None:
    server.faults["PutObject"].append("corrupt")
    with pytest.raises(ChecksumMismatch):
        engine.put("key", segments_of(524288), attributes=PLAIN, deadline_s=DEADLINE_S)
    upload = engine.begin("big", attributes=PLAIN, deadline_s=DEADLINE_S)
    upload.add_part(segments_of(PART_BYTES))
    server.faults["UploadPart"].append("corrupt")
    with pytest.raises(ChecksumMismatch):
        upload.add_part(segments_of(PART_BYTES))
    upload.abort()
    assert server.objects == {}
    assert server.uploads == {}
