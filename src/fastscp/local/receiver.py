"""The receiver beside the embedded AWS: `fastscp serve` in a process of its own.

Enters: its options. Leaves: its log records; its exit code. Never: a receiver that outlives the program that started it by its own doing.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

START_TIMEOUT_S = 60.0
Record = dict[str, Any]


class Receiver:
    """Started at once.

    Args:
        options: of `fastscp serve`.
        environ: of its process.
        on_record: gets each log record, in a thread of its own.

    Attributes:
        plain: what it wrote that is no log record.
    """

    def __init__(self, options: Sequence[str], environ: Mapping[str, str], on_record: Callable[[Record], None]) -> None:
        self.plain: list[str] = []
        self._on_record = on_record
        self._ready: queue.Queue[Record | None] = queue.Queue()
        # A session of its own: Ctrl-C reaches the program that started it, which then asks it to drain.
        self._process = subprocess.Popen(  # noqa: S603 - options that were checked
            [sys.executable, "-m", "fastscp", "serve", "--log-format", "json", *options],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=dict(environ),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="receiver-log", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - for mypy: it is a pipe
        for line in self._process.stderr:
            try:
                record = json.loads(line)
            except ValueError:
                self.plain.append(line.strip())
                continue
            if record.get("event") == "ready":
                self._ready.put(record)
            self._on_record(record)
        self._ready.put(None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> Record | None:
        """The record that says that associations are accepted; None where it ended, or did not get there in START_TIMEOUT_S."""
        try:
            return self._ready.get(timeout=START_TIMEOUT_S)
        except queue.Empty:
            return None

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def drain(self) -> int:
        """Ask it to finish what is being sent, and wait. Returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait()
        self._reader.join()
        return code

    def kill(self) -> None:
        """End it and its workers at once, whichever of them still run."""
        # Its session is a process group too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
