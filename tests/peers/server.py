"""The receiver in a process of its own, as an operator starts it.

Enters: options. Leaves: its ports, log records, metrics, resources in use and exit code. Never: a process that outlives its test.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

WAIT_S = 30.0
_PR_SET_PDEATHSIG = 1


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Poll until `condition` holds. Fails the test naming `what` where it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.01)


@dataclass(frozen=True)
class Resources:
    """What a process tree holds, from /proc."""

    processes: int
    threads: int
    descriptors: int

    def within(self, base: Resources) -> bool:
        return self.processes <= base.processes and self.threads <= base.threads and self.descriptors <= base.descriptors


def process_tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{task}/children").read_text(encoding="ascii").split()
                found += [int(child) for child in children]
        except OSError:
            continue
    return found


class FastScp:
    """`fastscp serve` on free loopback ports. Ready once constructed, killed on exit from its `with` block."""

    def __init__(
        self,
        store: Path | str,
        *options: str,
        environment: dict[str, str] | None = None,
        max_descriptors: int | None = None,
        wait_ready: bool = True,
        port: int = 0,
    ) -> None:
        """
        Args:
            max_descriptors: limit that the process starts with.
            port: 0 takes a free one, which the ready record tells.
        """
        self.store = Path(store)
        self.port, self.admin_port = port, 0
        self.log_lines: list[str] = []
        self.records: list[dict[str, Any]] = []

        def in_child() -> None:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if max_descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max_descriptors, max_descriptors))

        command = [sys.executable, "-m", "fastscp", "serve", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--admin-port", "0", "--store", str(store), *options]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            preexec_fn=in_child,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if wait_ready:
            try:
                ready = self.wait_event("ready")
                self.port, self.admin_port = ready["port"], ready["admin_port"]
                wait_until(lambda: self.get("/readyz")[0] == 200, "/readyz answers 200")
            except BaseException:
                self.kill()
                raise

    def __enter__(self) -> FastScp:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log_lines.append(line.rstrip("\n"))
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                self.records.append(record)

    def log_text(self) -> str:
        return "\n".join(self.log_lines)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [record for record in list(self.records) if record.get("event") == name]

    def wait_event(self, name: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th record of this event, once it is there."""

        def there() -> bool:
            if self.process.poll() is not None and not self._reader.is_alive() and len(self.events(name)) < count:
                raise AssertionError(f"exited {self.process.returncode} before {name!r}:\n{self.log_text()}")
            return len(self.events(name)) >= count

        try:
            wait_until(there, f"log record {name!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\nlog:\n{self.log_text()}") from None
        return self.events(name)[count - 1]

    def get(self, path: str) -> tuple[int, str]:
        """GET from the admin port as (status, body); (0, "") where nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Samples by name with labels as they stand in the exposition, for instance `x_total{reason="y"}`."""
        status, body = self.get("/metrics")
        assert status == 200, f"/metrics answered {status}"
        lines = [line for line in body.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        return sum(value for key, value in self.metrics().items() if key == name or key.startswith(name + "{"))

    def resources(self) -> Resources:
        tree = process_tree(self.pid)
        threads = descriptors = 0
        for pid in tree:
            threads += len(os.listdir(f"/proc/{pid}/task"))
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return Resources(len(tree), threads, descriptors)

    def resident_peak_bytes(self) -> int:
        """The sum of VmHWM over the process tree."""
        total = 0
        for pid in process_tree(self.pid):
            for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stored_files(self) -> dict[str, Path]:
        """Instances under their final names, by path relative to the store."""
        return {str(path.relative_to(self.store)): path for path in self.store.rglob("*.dcm") if path.is_file()}

    def stray_files(self) -> list[Path]:
        """Files that are not an instance under a final name: temporary ones, above all."""
        return [path for path in self.store.rglob("*") if path.is_file() and path.suffix != ".dcm"]

    def send_signal(self, number: int) -> None:
        """To the process that was started. SIGKILL is for all processes: what ends without a word is a machine, or a container."""
        if number == signal.SIGKILL:
            self.kill()
        else:
            os.kill(self.pid, number)

    def wait_exit(self, timeout_s: float = WAIT_S) -> int:
        """The exit code, once the process and its log have ended."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s; log:\n{self.log_text()}") from None
        self._reader.join(timeout_s)
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal, wait, and return the exit code."""
        self.send_signal(number)
        return self.wait_exit()

    def kill(self) -> None:
        """End the process and everything it started, whatever state they are in."""
        tree = process_tree(self.pid) if self.process.poll() is None else []
        # As one: stopped first, so that none sees another's end.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in tree:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)


def run_to_exit(store: Path | str, *options: str, environment: dict[str, str] | None = None, port: int = 0) -> tuple[int, str]:
    """Start `fastscp serve` that is expected to end by itself; (exit code, what it wrote to stderr)."""
    with FastScp(store, *options, environment=environment, wait_ready=False, port=port) as server:
        return server.wait_exit(), server.log_text()


def serve_options(**values: Sequence[str] | str | int | float) -> list[str]:
    """`idle_timeout=1` as `["--idle-timeout", "1"]`."""
    return [part for name, value in values.items() for part in ("--" + name.replace("_", "-"), str(value))]
