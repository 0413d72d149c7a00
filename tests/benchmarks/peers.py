"""Peers for the benchmark tools' own tests.

Enters: nothing. Leaves: a floor receiver, a pynetdicom receiver that records, a proxy that alters answers. Never: outlives its test.
"""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pynetdicom import evt

from benchmarks import processes
from benchmarks.native_tools import executable


@dataclass
class Floor:
    """A running floor receiver."""

    port: int
    process: subprocess.Popen[str]

    def counts(self) -> dict[str, int]:
        """End it and read what it counted."""
        self.process.terminate()
        output, _ = self.process.communicate(timeout=60)
        counts: dict[str, int] = json.loads(output)
        return counts


@contextmanager
def run_floor(directory: Path | None) -> Iterator[Floor]:
    port = processes.free_port()
    command = [str(executable("floor")), str(port), *([str(directory)] if directory else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Floor(port, process)
    finally:
        process.kill()
        process.wait()


@dataclass
class Recorder:
    """What a pynetdicom receiver got; `statuses` are the answers to give, Success when they are used up."""

    port: int = 0
    received: list[tuple[str, int, bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    released: int = 0
    abort: bool = False

    def store(self, event: evt.Event) -> int:
        request = event.request
        self.received.append((str(request.AffectedSOPInstanceUID), request.MessageID, event.encoded_dataset(include_meta=False)))
        if self.abort:
            event.assoc.abort()
        return self.statuses.pop(0) if self.statuses else 0x0000

    def release(self, event: evt.Event) -> None:
        self.released += 1


@contextmanager
def altering_proxy(to_port: int, alter: Callable[[bytes], bytes]) -> Iterator[int]:
    """Passes one connection on, and what comes back through `alter`; an empty result ends the connection. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def pump(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
            try:
                while data := source.recv(1 << 20):
                    changed = change(data)
                    if not changed:
                        break
                    sink.sendall(changed)
            except OSError:
                pass
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

        def serve() -> None:
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", to_port), timeout=60) as server:
                forward = threading.Thread(target=pump, args=(client, server, lambda data: data))
                forward.start()
                pump(server, client, alter)
                forward.join()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(60)
