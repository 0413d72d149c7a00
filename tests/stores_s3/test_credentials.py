"""Credentials change while instances are sent, wherever the standard AWS chain has them from: no instance is refused for that."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fastscp.stores.s3 import Engine, EngineError, ObjectAttributes
from tests.stores_s3.conftest import SECRET_KEY, OpenEngine
from tests.stores_s3.s3_server import S3Server

PLAIN = ObjectAttributes("application/dicom", {})
DEADLINE_S = 30.0
THREADS = 3

Rotate = Callable[[str], None]


@contextmanager
def under_load(engine: Engine) -> Iterator[None]:
    """Puts objects from several threads until the end of the block. Every one of them must succeed."""
    stop = threading.Event()
    failures: list[EngineError] = []

    def load(worker: int) -> None:
        number = 0
        while not stop.is_set() and not failures:
            number += 1
            try:
                engine.put(f"load/{worker}/{number}", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
            except EngineError as error:
                failures.append(error)

    workers = [threading.Thread(target=load, args=(worker,)) for worker in range(THREADS)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not failures, failures


def keys_used(server: S3Server) -> list[str]:
    """Access keys in the order in which they first came."""
    return list(dict.fromkeys(headers["authorization"].split("Credential=")[1].split("/")[0] for _, headers in server.requests))


class ContainerRole(ThreadingHTTPServer):
    """The credentials endpoint of a task: what it gives lasts so short that it is asked again for each signature."""

    access_key = ""
    daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _RoleHandler(BaseHTTPRequestHandler):
    server: ContainerRole

    def do_GET(self) -> None:
        expiration = (datetime.now(UTC) + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
        credentials = {"AccessKeyId": self.server.access_key, "SecretAccessKey": SECRET_KEY, "Token": "token", "Expiration": expiration}
        body = json.dumps(credentials).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def container_credentials(access_key: str) -> Iterator[ContainerRole]:
    role = ContainerRole(("127.0.0.1", 0), _RoleHandler)
    role.access_key = access_key
    thread = threading.Thread(target=role.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield role
    finally:
        role.shutdown()
        thread.join()
        role.server_close()


@pytest.fixture(params=["shared-file", "credential-process", "container"])
def rotate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rotate]:
    """Sets the chain up so that credentials come from there, KEY-1 at first. Changes the access key that is found there."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    if request.param == "container":
        with container_credentials("KEY-1") as role:
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.url)
            yield lambda access_key: setattr(role, "access_key", access_key)
        return
    credentials, config, answer = tmp_path / "credentials", tmp_path / "config", tmp_path / "answer.json"
    monkeypatch.setenv("AWS_PROFILE", "receiver")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    def write(path: Path, text: str) -> None:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)

    def in_shared_file(access_key: str) -> None:
        write(credentials, f"[receiver]\naws_access_key_id = {access_key}\naws_secret_access_key = {SECRET_KEY}\n")

    def in_answer_of_process(access_key: str) -> None:
        # So near its end that it is asked for again with each signature.
        end = (datetime.now(UTC) + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"Version": 1, "AccessKeyId": access_key, "SecretAccessKey": SECRET_KEY, "SessionToken": "token", "Expiration": end}
        write(answer, json.dumps(said))

    config.write_text("[profile receiver]\n")
    rotate = in_shared_file
    if request.param == "credential-process":
        config.write_text(f"[profile receiver]\ncredential_process = /bin/cat {answer}\n")
        rotate = in_answer_of_process
    rotate("KEY-1")
    yield rotate


@pytest.mark.parametrize("answer", [(400, "ExpiredToken"), (403, "InvalidAccessKeyId")])
def test_a_rotation_under_load_is_not_seen(rotate: Rotate, open_at: OpenEngine, server: S3Server, answer: tuple[int, str]) -> None:
    server.access_keys, server.stale_key_answer = {"KEY-1"}, answer
    engine = open_at(server.url)
    engine.put("1", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    with under_load(engine):
        rotate("KEY-2")
        server.access_keys = {"KEY-2"}
        engine.put("2", [b"2"], attributes=PLAIN, deadline_s=DEADLINE_S)
        upload = engine.begin("3", attributes=PLAIN, deadline_s=DEADLINE_S)
        rotate("KEY-3")
        server.access_keys = {"KEY-3"}
        upload.add_part([b"3"])
        upload.complete()
    assert {"1", "2", "3"} <= set(server.objects)
    assert keys_used(server) == ["KEY-1", "KEY-2", "KEY-3"]


def test_an_expired_key_lasts_until_it_is_overwritten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, open_at: OpenEngine, server: S3Server
) -> None:
    credentials = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    credentials.write_text(f"[default]\naws_access_key_id = OLD\naws_secret_access_key = {SECRET_KEY}\n")
    server.access_keys = {"NEW"}
    engine = open_at(server.url, attempt_timeout_s=4.0, connect_timeout_s=0.5)
    for present in (True, False):
        if not present:
            credentials.unlink()
        with pytest.raises(EngineError) as caught:
            engine.put("1", [b"1"], attributes=PLAIN, deadline_s=4.5)
        assert (caught.value.code, caught.value.retryable) == ("ExpiredToken", True)
    credentials.write_text(f"[default]\naws_access_key_id = NEW\naws_secret_access_key = {SECRET_KEY}\n")
    engine.put("1", [b"1"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert list(server.objects) == ["1"]
