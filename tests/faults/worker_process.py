"""A worker with leases so short that a test can wait for their end, in a process that can be stopped and killed.

Enters: one instance a line on standard input, as JSON; its end drains the worker. Leaves: a status in JSON a line, and one line at the end.
Never: limits that an operator could set.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import cast

from fastscp.batches import Limits
from fastscp.stores.s3 import EngineKind, S3Options, open_engine
from tests.faults.receiving import Association, running
from tests.peers.datasets import Made, make
from tests.peers.server import wait_until

ROOT = Path(__file__).parents[2]
LEASE_S = 2.0
LIMITS = Limits(lease_s=LEASE_S, renew_s=0.4, retry_s=0.1, put_deadline_s=1.5, tick_s=0.05)


class Worker:
    """The process. Killed on exit from its `with` block."""

    def __init__(self, url: str, kind: EngineKind, store: str, *, skew_s: float = 0.0) -> None:
        """
        Args:
            skew_s: by how much the clock of the worker is ahead of the test's.
        """
        command = [sys.executable, "-m", "tests.faults.worker_process", url, kind, store, str(skew_s)]
        self.statuses: dict[str, int] = {}
        self._sent: dict[str, Made] = {}
        self._closed = False
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def begin(self, made: Made) -> None:
        """Have an instance sent, in a thread and an association of its own."""
        self.statuses.pop(made.sop_instance, None)
        self._sent[made.sop_instance] = made
        self._write({"sop_instance": made.sop_instance, "study": made.study, "series": made.series})

    def send(self, made: Made) -> int:
        """Have an instance sent. Returns the status."""
        self.begin(made)
        return self.status(made)

    def status(self, made: Made) -> int:
        """The answer to an instance that was begun, once it is there."""
        wait_until(lambda: made.sop_instance in self.statuses, "an answer")
        return self.statuses[made.sop_instance]

    def acknowledged(self) -> list[Made]:
        """What was answered with Success."""
        return [made for uid, made in self._sent.items() if self.statuses.get(uid) == 0]

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def begin_drain(self) -> None:
        """Have it close its batches and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait_drained(self) -> None:
        """Wait until it has ended, by itself and well."""
        assert self.process.wait(30) == 0
        self._reader.join(30)
        assert self._closed

    def kill(self) -> None:
        """End it, in whatever state it is."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait(30)
        self._reader.join(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _write(self, what: dict[str, str]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said == "closed":
                self._closed = True
            else:
                self.statuses[said["sop_instance"]] = said["status"]


def main() -> None:
    """In the process: store what standard input names, until it ends."""
    parser = argparse.ArgumentParser()
    for name in ("url", "kind", "store"):
        parser.add_argument(name)
    parser.add_argument("skew_s", type=float)
    arguments = parser.parse_args()
    true_time = time.time
    # Before the store takes the clock over; credentials and signatures have another.
    time.time = lambda: true_time() + arguments.skew_s
    # Log records go elsewhere.
    answers, sys.stdout = sys.stdout, sys.stderr
    options = S3Options("bucket", endpoint_url=arguments.url, attempt_timeout_s=1.5, connect_timeout_s=0.3)
    engine = open_engine(cast(EngineKind, arguments.kind), options)
    lock = threading.Lock()

    def say(what: object) -> None:
        with lock:
            print(json.dumps(what), file=answers, flush=True)

    with running(engine, arguments.store, LIMITS) as store:

        def send(number: int, made: Made) -> None:
            association = Association(store, f"association-{number}")
            say({"sop_instance": made.sop_instance, "status": association.send(made)})
            association.close()

        threads = []
        for number, line in enumerate(sys.stdin):
            threads.append(threading.Thread(target=send, args=(number, make(**json.loads(line)))))
            threads[-1].start()
        for thread in threads:
            thread.join()
    engine.close()
    say("closed")
    os._exit(0)


if __name__ == "__main__":
    main()
