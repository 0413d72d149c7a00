"""The receivers that are compared, and how each is started and known to be ready.

Enters: a name. Leaves: a fresh, ready process on a free port. Never: stops a process that it did not start.
"""

import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import processes, s3
from benchmarks.native_tools import executable

START_DEADLINE_S = 60
STOP_DEADLINE_S = 60
MAX_PDU_BYTES = 131072
ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
S3_STORE = f"s3://{s3.BUCKET}/hospital"


class ContenderFailed(Exception):
    """A receiver did not start, or ended by itself."""


@dataclass(frozen=True)
class Place:
    """Where one receiver runs: its port, its admin port and an empty directory of its own with `store/` in it."""

    port: int
    admin_port: int
    directory: Path

    @property
    def store(self) -> Path:
        """The directory for received files."""
        return self.directory / "store"


@dataclass(frozen=True)
class Contender:
    """A receiver. Where `keeps_files` every instance must be found in its store afterwards, where `uploads` in the S3 sink."""

    name: str
    label: str
    command: Callable[[Place], list[str]]
    installed: Callable[[], bool]
    keeps_files: bool
    environment: dict[str, str] = field(default_factory=dict)
    admin_ready: bool = False
    uploads: bool = False


@dataclass(frozen=True)
class Running:
    """A ready receiver; `sink` where it uploads."""

    contender: Contender
    pid: int
    place: Place
    sink: s3.Sink | None = None


def _floor(place: Place) -> list[str]:
    return [str(executable("floor")), str(place.port)]


def _floor_file(place: Place) -> list[str]:
    return [*_floor(place), str(place.store)]


def _fastscp(place: Place, store: str, *program: str) -> list[str]:
    return [
        *(sys.executable, *(program or ("-m", "fastscp")), "serve", "--host", "127.0.0.1"),
        *("--port", str(place.port), "--admin-port", str(place.admin_port), "--store", store, "--max-associations", "1000"),
    ]


def _fastscp_obstore(place: Place) -> list[str]:
    return [*_fastscp(place, S3_STORE), "--s3-engine", "obstore"]


def _fastscp_s3transfer(place: Place) -> list[str]:
    return [*_fastscp(place, S3_STORE), "--s3-engine", "s3transfer"]


def _fastscp_crt(place: Place) -> list[str]:
    return _fastscp(place, S3_STORE, str(PEERS / "fastscp_crt.py"))


def _fastscp_null(place: Place) -> list[str]:
    return _fastscp(place, "null:")


def _fastscp_file(place: Place) -> list[str]:
    return _fastscp(place, str(place.store))


def _storescp(place: Place) -> list[str]:
    return ["storescp", "--quiet", "+B", "--output-directory", str(place.store), str(place.port)]


def _storescp_large_pdu(place: Place) -> list[str]:
    return [*_storescp(place), "--max-pdu", str(MAX_PDU_BYTES)]


def _storescp_fork(place: Place) -> list[str]:
    return [*_storescp(place), "--fork"]


def _storescp_fork_large_pdu(place: Place) -> list[str]:
    return [*_storescp_large_pdu(place), "--fork"]


def _pynetdicom(place: Place) -> list[str]:
    return [sys.executable, str(PEERS / "pynetdicom_scp.py"), str(place.port)]


def _pynetdicom_file(place: Place) -> list[str]:
    return [*_pynetdicom(place), str(place.store)]


def _pynetdicom_s3(place: Place) -> list[str]:
    return [sys.executable, str(PEERS / "pynetdicom_s3.py"), str(place.port), s3.BUCKET, "before"]


def _pynetdicom_s3_early(place: Place) -> list[str]:
    return [*_pynetdicom_s3(place)[:-1], "early"]


def _orthanc(place: Place) -> list[str]:
    configuration = place.directory / "orthanc.json"
    settings = {
        "DicomAet": "ORTHANC",
        "DicomPort": place.port,
        "DicomCheckCalledHost": False,
        "DicomAlwaysAllowStore": True,
        "DicomThreadsCount": 8,
        "MaximumPduLength": MAX_PDU_BYTES,
        "HttpServerEnabled": False,
        "OverwriteInstances": True,
        "StorageDirectory": str(place.store),
        "IndexDirectory": str(place.directory / "index"),
        "Plugins": [],
    }
    configuration.write_text(json.dumps(settings))
    return ["Orthanc", str(configuration)]


def _has(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


def _always() -> bool:
    return True


def _uploader(name: str, label: str, command: Callable[[Place], list[str]], *, needs: str, admin_ready: bool = False) -> Contender:
    def installed() -> bool:
        return s3.available() and importlib.util.find_spec(needs) is not None

    return Contender(name, label, command, installed, keeps_files=False, admin_ready=admin_ready, uploads=True)


NODELAY = {"TCP_NODELAY": "1"}

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("floor-null", "floor, no file", _floor, _always, keeps_files=False),
        Contender("floor-file", "floor, file", _floor_file, _always, keeps_files=True),
        Contender("fastscp-null", "fastscp, `null:`", _fastscp_null, _always, keeps_files=False, admin_ready=True),
        Contender("fastscp-file", "fastscp, file", _fastscp_file, _always, keeps_files=True, admin_ready=True),
        Contender("dcmtk", "DCMTK `storescp +B`", _storescp_large_pdu, _has("storescp"), keeps_files=True),
        Contender("dcmtk-nodelay", "DCMTK, TCP_NODELAY=1", _storescp_large_pdu, _has("storescp"), keeps_files=True, environment=NODELAY),
        Contender("dcmtk-fork", "DCMTK `--fork`", _storescp_fork_large_pdu, _has("storescp"), keeps_files=True),
        Contender("dcmtk-pair", "DCMTK pair, stock", _storescp_fork, _has("storescp"), keeps_files=True),
        Contender(
            "dcmtk-pair-nodelay",
            "DCMTK pair, TCP_NODELAY=1 in both",
            _storescp_fork,
            _has("storescp"),
            keeps_files=True,
            environment=NODELAY,
        ),
        Contender("orthanc", "Orthanc", _orthanc, _has("Orthanc"), keeps_files=True),
        Contender("pynetdicom-file", "pynetdicom, `encoded_dataset()` to file", _pynetdicom_file, _always, keeps_files=True),
        Contender("pynetdicom-null", "pynetdicom, nothing kept", _pynetdicom, _always, keeps_files=False),
        _uploader("fastscp-obstore", "fastscp, `obstore`", _fastscp_obstore, needs="obstore", admin_ready=True),
        _uploader("fastscp-s3transfer", "fastscp, `s3transfer`", _fastscp_s3transfer, needs="s3transfer", admin_ready=True),
        _uploader("fastscp-crt", "fastscp, s3transfer's CRT manager", _fastscp_crt, needs="awscrt", admin_ready=True),
        _uploader("pynetdicom-boto3", "pynetdicom, `put_object`", _pynetdicom_s3, needs="boto3"),
        _uploader("pynetdicom-boto3-early", "pynetdicom, `put_object` after the answer", _pynetdicom_s3_early, needs="boto3"),
    )
}


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers_ready(admin_port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_ready(contender: Contender, process: subprocess.Popen[bytes], place: Place, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ContenderFailed(f"{contender.name} ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        if _answers_ready(place.admin_port) if contender.admin_ready else _accepts(place.port):
            return
        time.sleep(0.05)
    raise ContenderFailed(f"{contender.name} was not ready within {START_DEADLINE_S} s: {log.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after the deadline SIGKILL, to the process group that was started here."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_DEADLINE_S)
            break
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def running(contender: Contender, directory: Path) -> Iterator[Running]:
    """A fresh process of `contender`, ready. On leaving it is stopped and all that it stored is deleted. Raises ContenderFailed."""
    place = Place(port=processes.free_port(), admin_port=processes.free_port(), directory=directory)
    place.store.mkdir(parents=True)
    log = directory / "log"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        sink = stack.enter_context(s3.running_sink(directory)) if contender.uploads else None
        with log.open("wb") as output:
            process = subprocess.Popen(
                contender.command(place),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **contender.environment, **(sink.environment if sink else {})},
                start_new_session=True,
            )
        stack.callback(_stop, process)
        _wait_ready(contender, process, place, log)
        yield Running(contender, process.pid, place, sink)


def stored_files(running_contender: Running, at_least_bytes: int) -> int:
    """How many files of at least this size are in its store."""
    sizes = (path.stat().st_size for path in running_contender.place.store.rglob("*") if path.is_file())
    return sum(size >= at_least_bytes for size in sizes)
