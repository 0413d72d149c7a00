"""What both engines do when S3 fails: after each fault what was acknowledged is stored, and nothing else but what is unknown."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastscp.errors import ConfigError
from fastscp.stores.s3 import AccessProblem, ChecksumMismatch, Engine, EngineError, ObjectAttributes, PreconditionFailed
from tests.stores_s3.conftest import OpenEngine
from tests.stores_s3.s3_server import S3Server
from tests.stores_s3.test_engine_contract import PART_BYTES, segments_of

PLAIN = ObjectAttributes("application/dicom", {})
DEADLINE_S = 30.0
SHORT = {"attempt_timeout_s": 1.5, "connect_timeout_s": 0.5}


@pytest.mark.parametrize("fault", ["slow-down", "reset", "reset-after-commit", "expired", "error-in-200"])
def test_a_passing_fault_is_not_seen(engine: Engine, server: S3Server, fault: str) -> None:
    server.faults["PutObject"].extend([fault, fault])
    segments = segments_of(524288)
    result = engine.put("key", segments, attributes=PLAIN, deadline_s=DEADLINE_S)
    assert server.count("PutObject") == 3
    assert {key: stored.etag for key, stored in server.objects.items()} == {"key": result.etag}
    assert server.objects["key"].body == b"".join(segments)


@pytest.mark.parametrize("fault", ["slow-down", "reset", "stall"])
def test_a_fault_that_lasts_ends_at_the_deadline(open_at: OpenEngine, server: S3Server, fault: str) -> None:
    engine = open_at(server.url, **SHORT)
    server.faults["PutObject"].extend([fault] * 1000)
    segments = segments_of(524288)
    with pytest.raises(EngineError) as caught:
        engine.put("key", segments, attributes=PLAIN, deadline_s=6.0)
    assert caught.value.retryable
    assert caught.value.unknown == (fault != "slow-down")
    assert server.count("PutObject") > 1
    assert server.objects == {}


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
@pytest.mark.parametrize("fault", ["reset", "stall", "silent-after-commit", "denied", ""])
@pytest.mark.parametrize("over_tls", [True, False])
def test_memory_is_the_callers_again_when_a_call_ends(
    open_at: OpenEngine, server: S3Server, plain_server: S3Server, operation: str, fault: str, over_tls: bool
) -> None:
    at = server if over_tls else plain_server
    # One attempt where it is to fail; where it is not, all the time that a busy machine may need.
    engine, deadline_s = (open_at(at.url, **SHORT), 0.1) if fault else (open_at(at.url), DEADLINE_S)
    upload = engine.begin("key", attributes=PLAIN, deadline_s=deadline_s)
    at.faults[operation].append(fault)
    memory = bytearray(8 << 20)
    caught = []
    with memoryview(memory) as whole, whole[:5] as first, whole[5:] as rest:
        try:
            if operation == "PutObject":
                engine.put("key", [first, rest], attributes=PLAIN, deadline_s=deadline_s)
            else:
                upload.add_part([first, rest])
        except EngineError as error:
            caught.append(error)
    memory.clear()  # BufferError where anything still has a view, the error included.
    assert len(caught) == bool(fault)


def test_a_put_without_an_answer_is_repeated(open_at: OpenEngine, server: S3Server) -> None:
    engine = open_at(server.url, **SHORT)
    server.faults["PutObject"].append("silent-after-commit")
    engine.put("key", [b"once"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert server.count("PutObject") == 2
    assert server.objects["key"].body == b"once"


def test_a_precondition_that_our_own_lost_answer_broke_says_so(open_at: OpenEngine, server: S3Server) -> None:
    engine = open_at(server.url, **SHORT)
    server.faults["PutObject"].append("reset-after-commit")
    with pytest.raises(PreconditionFailed) as caught:
        engine.put("key", [b"mine"], attributes=PLAIN, deadline_s=DEADLINE_S, if_none_match=True)
    assert caught.value.may_be_ours
    assert engine.get_bytes("key", deadline_s=DEADLINE_S) == b"mine"


def test_denied_is_not_repeated(engine: Engine, server: S3Server) -> None:
    server.faults["PutObject"].extend(["denied"] * 5)
    with pytest.raises(AccessProblem) as caught:
        engine.put("key", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert caught.value.code == "AccessDenied"
    assert server.count("PutObject") == 1
    assert server.objects == {}


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "AbortMultipartUpload"])
def test_what_the_check_may_not_do_is_a_configuration_error(engine: Engine, server: S3Server, operation: str) -> None:
    server.faults[operation].append("denied")
    with pytest.raises(ConfigError, match="AccessDenied") as caught:
        engine.check("prefix", deadline_s=DEADLINE_S)
    assert caught.value.option == "--store"


def test_an_outage_is_not_a_configuration_error(open_at: OpenEngine, server: S3Server) -> None:
    engine = open_at(server.url, **SHORT)
    server.faults["CreateMultipartUpload"].extend(["slow-down"] * 1000)
    with pytest.raises(EngineError) as caught:
        engine.check("prefix", deadline_s=2.0)
    assert caught.value.code == "SlowDown"


@pytest.mark.parametrize("fault", ["slow-down", "reset", "reset-after-commit", "error-in-200"])
def test_a_part_is_sent_again(engine: Engine, server: S3Server, fault: str) -> None:
    upload = engine.begin("big", attributes=PLAIN, deadline_s=DEADLINE_S)
    server.faults["UploadPart"].append(fault)
    parts = [segments_of(PART_BYTES), segments_of(1000)]
    for part in parts:
        upload.add_part(part)
    upload.complete()
    assert server.objects["big"].body == b"".join(b"".join(part) for part in parts)
    assert server.count("UploadPart") == 3


@pytest.mark.parametrize("fault", ["slow-down", "error-in-200", "reset", "reset-after-commit", "silent-after-commit"])
def test_a_completion_that_fails_or_loses_its_answer_is_repeated(open_at: OpenEngine, server: S3Server, fault: str) -> None:
    engine = open_at(server.url, **SHORT)
    upload = engine.begin("big", attributes=PLAIN, deadline_s=DEADLINE_S)
    upload.add_part(segments_of(PART_BYTES))
    server.faults["CompleteMultipartUpload"].append(fault)
    result = upload.complete()
    assert {key: stored.etag for key, stored in server.objects.items()} == {"big": result.etag}
    assert server.uploads == {}


def test_an_outcome_that_one_attempt_left_open_stays_open(engine: Engine, server: S3Server) -> None:
    server.faults["PutObject"].extend(["reset-after-commit", "denied"])
    with pytest.raises(AccessProblem) as caught:
        engine.put("key", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert caught.value.unknown
    assert list(server.objects) == ["key"]


def test_a_completion_that_keeps_failing_is_no_object(open_at: OpenEngine, server: S3Server) -> None:
    engine = open_at(server.url, **SHORT)
    upload = engine.begin("big", attributes=PLAIN, deadline_s=3.0)
    upload.add_part(segments_of(1000))
    server.faults["CompleteMultipartUpload"].extend(["error-in-200"] * 1000)
    with pytest.raises(EngineError) as caught:
        upload.complete()
    assert caught.value.code == "InternalError"
    upload.abort()
    assert server.objects == {}
    assert server.uploads == {}


@pytest.mark.parametrize("fault", ["slow-down", "reset", "stall", "cut"])
def test_control_operations_are_repeated(open_at: OpenEngine, server: S3Server, fault: str) -> None:
    engine = open_at(server.url, **SHORT)
    engine.put("open/1", [b"one"], attributes=PLAIN, deadline_s=DEADLINE_S)
    for operation in ("GetObject", "ListObjectsV2", "DeleteObject", "CreateMultipartUpload", "AbortMultipartUpload"):
        server.faults[operation].append(fault)
    assert engine.get_bytes("open/1", deadline_s=DEADLINE_S) == b"one"
    assert [entry.key for entry in engine.list_keys("open/", deadline_s=DEADLINE_S)] == ["open/1"]
    engine.delete("open/1", deadline_s=DEADLINE_S)
    engine.check("prefix", deadline_s=DEADLINE_S)
    assert server.objects == {}
    assert server.uploads == {}
    assert server.count("GetObject") == server.count("CreateMultipartUpload") == 2


def test_a_vanished_upload_is_not_taken_for_an_object_of_another(engine: Engine, server: S3Server) -> None:
    engine.put("big", [b"another's"], attributes=PLAIN, deadline_s=DEADLINE_S)
    upload = engine.begin("big", attributes=PLAIN, deadline_s=DEADLINE_S)
    upload.add_part([b"ours"])
    server.uploads.clear()
    server.faults["CompleteMultipartUpload"].append("reset")
    with pytest.raises(EngineError) as caught:
        upload.complete()
    assert not caught.value.retryable
    assert server.objects["big"].body == b"another's"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_byte_that_the_line_changes_is_no_object(open_at: OpenEngine, plain_server: S3Server, streamed: bool) -> None:
    with flipping_proxy(plain_server.port, at_byte=300_000) as port:
        engine = open_at(f"http://127.0.0.1:{port}")
        if streamed:
            upload = engine.begin("key", attributes=PLAIN, deadline_s=DEADLINE_S)
            with pytest.raises(ChecksumMismatch):
                upload.add_part(segments_of(PART_BYTES))
            upload.abort()
        else:
            with pytest.raises(ChecksumMismatch):
                engine.put("key", segments_of(524288), attributes=PLAIN, deadline_s=DEADLINE_S)
        assert plain_server.objects == {}
        assert plain_server.uploads == {}
        engine.put("key", segments_of(524288), attributes=PLAIN, deadline_s=DEADLINE_S)
        assert list(plain_server.objects) == ["key"]


def test_objects_of_many_threads(engine: Engine, server: S3Server) -> None:
    etags: dict[str, str] = {}

    def work(worker: int) -> None:
        for number in range(20):
            key = f"{worker}/{number}"
            etags[key] = engine.put(key, [key.encode(), bytes(1000 * worker)], attributes=PLAIN, deadline_s=DEADLINE_S).etag

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {key: stored.etag for key, stored in server.objects.items()} == etags
    assert len(etags) == 160


@contextmanager
def flipping_proxy(port: int, at_byte: int) -> Iterator[int]:
    """Passes connections on, and flips one bit of byte `at_byte` of the first that gets so far."""
    flipped = threading.Event()
    sockets: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, target: socket.socket, flip: bool) -> None:
        position = 0
        try:
            while data := bytearray(source.recv(65536)):
                if flip and position <= at_byte < position + len(data) and not flipped.is_set():
                    flipped.set()
                    data[at_byte - position] ^= 1
                position += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", port))
            sockets.extend([client, upstream])
            threading.Thread(target=pass_on, args=(client, upstream, True), daemon=True).start()
            threading.Thread(target=pass_on, args=(upstream, client, False), daemon=True).start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
        assert flipped.is_set()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for each in sockets:
            each.close()
