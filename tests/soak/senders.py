"""Senders that behave as senders do, badly at times.

Enters: a port and a seed. Leaves: associations of every kind, and the UIDs of what was acknowledged.
Never: more at one time than it is told.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.raw_scu import Aborted, PeerClosed, RawScu, Rejected

LARGE_BYTES = 7 << 20


class Senders:
    """`count` threads, each with one association after the other until `stop`."""

    def __init__(self, port: int, count: int, seed: int) -> None:
        self._port = port
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run, args=(random.Random(seed + number),), daemon=True) for number in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when the last association has ended."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, source: random.Random) -> None:
        kinds: list[Callable[[random.Random], str]] = [self._sends, self._idles, self._leaves, self._is_cut, self._is_large, self._is_noise]
        while not self._stopping.is_set():
            (kind,) = source.choices(kinds, weights=[70, 10, 8, 6, 3, 3])
            try:
                outcome = kind(source)
            except (Aborted, PeerClosed, Rejected, OSError) as error:
                outcome = type(error).__name__
            except AssertionError:
                # Another PDU than the one that was waited for: a worker that drains asks for the release.
                outcome = "was asked to release"
            with self._lock:
                self.outcomes[outcome] += 1
            self._stopping.wait(source.uniform(0, 1))

    def _store(self, scu: RawScu, made: Made) -> int:
        status = scu.store(made.sop_class, made.sop_instance, made.data_set).status
        with self._lock:
            self.outcomes[f"status {status:04X}"] += 1
            if status == 0:
                self.acknowledged.add(made.sop_instance)
        return status

    def _sends(self, source: random.Random) -> str:
        study = make().study
        with RawScu(self._port) as scu:
            scu.associate()
            for _ in range(source.randint(1, 15)):
                self._store(scu, make(study=study, pixel_bytes=source.choice([200, 2_000, 60_000, 500_000])))
                self._stopping.wait(source.uniform(0, 0.5))
            scu.release()
        return "released"

    def _idles(self, source: random.Random) -> str:
        with RawScu(self._port) as scu:
            scu.associate()
            self._stopping.wait(source.uniform(1, 20))
            self._store(scu, make())
            scu.release()
        return "idle, released"

    def _leaves(self, source: random.Random) -> str:
        with RawScu(self._port) as scu:
            scu.associate()
            self._store(scu, make())
            scu.abort() if source.random() < 0.5 else scu.reset()
        return "left"

    def _is_cut(self, source: random.Random) -> str:
        made = make(pixel_bytes=source.choice([10_000, LARGE_BYTES]))
        stream = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))
        with RawScu(self._port) as scu:
            scu.associate()
            scu.send(stream[: source.randrange(len(stream))])
            if source.random() < 0.3:
                self._stopping.wait(7)  # a stall: longer than --progress-timeout
        return "cut"

    def _is_large(self, source: random.Random) -> str:
        with RawScu(self._port) as scu:
            scu.associate()
            self._store(scu, make(pixel_bytes=LARGE_BYTES))
            scu.release()
        return "large, released"

    def _is_noise(self, source: random.Random) -> str:
        with RawScu(self._port) as scu:
            if source.random() < 0.7:
                scu.send(source.randbytes(source.randrange(1, 2000)))
        return "noise"
