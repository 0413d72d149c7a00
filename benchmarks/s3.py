"""The S3 sink that uploads go to: a process of its own, over TLS, with a delay on each request.

Enters: a directory for its certificates. Leaves: where it is, what an AWS client needs to reach it, and what arrived there.
Never: a real credential, a certificate that outlives the run.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks import processes
from benchmarks.native_tools import executable

DELAY_MS = 20
BUCKET = "bucket"
# The ones that AWS's documentation uses.
ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
STOP_DEADLINE_S = 60


@dataclass(frozen=True)
class Arrived:
    """What arrived since the sink was started; the latencies since it was last asked.

    Attributes:
        instances: complete objects whose key ends in .dcm, each key once.
        last_instance_s: when the last of them was complete, in seconds of CLOCK_MONOTONIC.
        put_p50_us: of the PUTs of instances, from the first byte to the answer; 0 where there was none.
        cpu_s: what the sink itself used.
    """

    connections: int
    puts: int
    parts: int
    others: int
    instances: int
    instance_bytes: int
    last_instance_s: float
    put_p50_us: float
    put_p99_us: float
    cpu_s: float


@dataclass(frozen=True)
class Certificates:
    """In PEM: an authority made for this run, and what it vouches for at 127.0.0.1."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make them with the openssl program. Raises CalledProcessError."""

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)

    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    openssl(
        f"req -x509 {new_key} -days 2 -keyout authority.key -out authority.pem -subj /CN=benchmark -addext keyUsage=critical,keyCertSign"
    )
    openssl(f"req {new_key} -keyout sink.key -out sink.csr -subj /CN=localhost")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl("x509 -req -in sink.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out sink.pem")
    return Certificates(directory / "authority.pem", directory / "sink.pem", directory / "sink.key")


@cache
def available() -> bool:
    """Whether the sink can be compiled (OpenSSL 3 with its headers) and has a program to make certificates with."""
    if shutil.which("openssl") is None:
        return False
    try:
        executable("s3_sink")
    except subprocess.CalledProcessError:
        return False
    return True


class Sink:
    """A running sink."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, certificates: Certificates) -> None:
        self._process = process
        self.port = port
        self.certificates = certificates

    @property
    def environment(self) -> dict[str, str]:
        """What makes an AWS client use this sink and nothing else."""
        return {
            "AWS_ENDPOINT_URL_S3": f"https://127.0.0.1:{self.port}",
            "AWS_CA_BUNDLE": str(self.certificates.authority),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def arrived(self) -> Arrived:
        """What is there now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Arrived(**json.loads(self._process.stdout.readline()))


@contextmanager
def running_sink(directory: Path, delay_ms: int = DELAY_MS) -> Iterator[Sink]:
    """A fresh sink with certificates below `directory`. Ended on leaving."""
    certificates = make_certificates(directory)
    port = processes.free_port()
    command = [str(executable("s3_sink")), str(port), str(certificates.certificate), str(certificates.key), str(delay_ms)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the sink ended with {process.wait()}")
        yield Sink(process, port, certificates)
    finally:
        process.kill()
        process.communicate(timeout=STOP_DEADLINE_S)
