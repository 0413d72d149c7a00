"""Drives the load source.

Enters: a payload, a port and how much to send. Leaves: what the load source measured. Never: returns from a run that lost an instance.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.native_tools import executable
from benchmarks.payloads import CONTEXT_ID, Payload, associate_request

LIMIT_S = 300
"""The load source ends itself after this time, whatever the receiver does."""


class LoadFailed(Exception):
    """An association or an instance failed; there is no result."""


@dataclass(frozen=True)
class LoadResult:
    """`seconds` is from the first byte sent to the last response.

    `latency_*_us` is per message, or per association where they follow each other.
    """

    instances: int
    associations: int
    seconds: float
    data_set_bytes: int
    latency_p50_us: float
    latency_p99_us: float
    load_cpu_s: float
    max_pdu_bytes: int


class PreparedLoad:
    """A payload and a proposal as files, for any number of runs. Owns them; every instance of every run has a number of its own."""

    def __init__(self, payload: Payload, directory: Path, context_count: int = 1) -> None:
        self.payload = payload
        self._directory = Path(tempfile.mkdtemp(prefix=f"{payload.name}-{context_count}-", dir=directory))
        (self._directory / "associate").write_bytes(associate_request(payload.sop_class_uid, context_count))
        (self._directory / "command").write_bytes(payload.command)
        (self._directory / "data-set").write_bytes(payload.data_set)
        self._next_number = 1

    def open(self, port: int, *, associations: int, instances_each: int, sequential: bool = False) -> "Load":
        """Open associations to a receiver on loopback. `instances_each` may be 0: then they only stay open. Raises LoadFailed."""
        first_number = self._next_number
        self._next_number += associations * instances_each
        options: dict[str, object] = {
            "host": "127.0.0.1",
            "port": port,
            "associate": self._directory / "associate",
            "command": self._directory / "command",
            "data-set": self._directory / "data-set",
            "command-number-at": self.payload.command_number_at,
            "data-set-number-at": self.payload.data_set_number_at,
            "message-id-at": self.payload.message_id_at,
            "context-id": CONTEXT_ID,
            "associations": associations,
            "instances": instances_each,
            "first-number": first_number,
            "limit-s": LIMIT_S,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return Load([str(executable("load")), *arguments, *(["--sequential"] if sequential else [])])


class Load:
    """A running load source. `with` it: leaving releases the associations, or ends the process where something was raised."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._read_line() != "established\n":
            self._fail()

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _step(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _fail(self) -> None:
        _, errors = self._process.communicate()
        raise LoadFailed(errors.strip() or f"the load source ended with {self._process.returncode}")

    def run(self) -> LoadResult:
        """Send everything and wait for the last response. Raises LoadFailed unless every one of them was Success."""
        self._step()
        line = self._read_line()
        if not line:
            self._fail()
        result = json.loads(line)
        if not result["ok"]:
            self._fail()
        return LoadResult(
            instances=result["instances"],
            associations=result["associations"],
            seconds=result["seconds"],
            data_set_bytes=result["bytes"],
            latency_p50_us=result["p50_us"],
            latency_p99_us=result["p99_us"],
            load_cpu_s=result["cpu_s"],
            max_pdu_bytes=result["max_pdu_bytes"],
        )

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
            self._process.communicate()
            return
        self._step()
        _, errors = self._process.communicate()
        if self._process.returncode:
            raise LoadFailed(errors.strip())
