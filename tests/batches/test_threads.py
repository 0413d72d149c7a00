"""What waits for what when real threads join and commit at once."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from fastscp.batches import Arrival, Batches, Keeper, Keys, Limits, Listed
from fastscp.batches.manifest import decode_manifest
from fastscp.errors import StoreError

KEYS = Keys("")
CRC = "AAAAAAAAAAA="
PATIENCE_S = 30.0


class MemoryObjects:
    """Objects in memory. A write that begins while `gate` is closed waits; one to a key that contains `broken` fails."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.broken: str | None = None
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        self._wait(key)
        with self._lock:
            self.objects[key] = data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._wait(key)
        with self._lock:
            return self.objects.setdefault(key, data) is data

    def delete(self, key: str) -> None:
        self._wait(key)
        with self._lock:
            self.objects.pop(key, None)

    def list(self, prefix: str) -> list[Listed]:
        with self._lock:
            return [Listed(key, len(data), 0.0) for key, data in sorted(self.objects.items()) if key.startswith(prefix)]

    def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def _wait(self, key: str) -> None:
        assert self.gate.wait(PATIENCE_S)
        if self.broken is not None and self.broken in key:
            raise StoreError("The storage failed", "injected")


def arrival(instance: int, study: str = "1.1", association: str = "a") -> Arrival:
    return Arrival(study, f"{study}.1", f"{study}.1.{instance}", "20260101", "MODALITY", "FASTSCP", association)


@contextmanager
def running(objects: MemoryObjects, limits: Limits, *, replace: bool = True, wait_s: float = PATIENCE_S) -> Iterator[Batches]:
    with ThreadPoolExecutor(4) as pool:
        yield Batches(
            objects,
            KEYS,
            limits,
            owner="worker",
            replace=replace,
            clock=time.time,
            entropy=os.urandom,
            submit=pool.submit,
            wait_s=wait_s,
        )
        objects.gate.set()


def store(batches: Batches, objects: MemoryObjects, what: Arrival, content: bytes) -> str:
    ticket = batches.join(what, len(content))
    objects.objects[ticket.key] = content
    ticket.committed(len(content), CRC)
    return ticket.key


def in_thread(pool: ThreadPoolExecutor, batches: Batches, objects: MemoryObjects, what: Arrival, content: bytes) -> "Future[str]":
    return pool.submit(store, batches, objects, what, content)


def test_nothing_is_promised_before_the_marker_is_there() -> None:
    objects = MemoryObjects()
    objects.gate.clear()
    with running(objects, Limits()) as batches, ThreadPoolExecutor(4) as pool:
        sends = [in_thread(pool, batches, objects, arrival(instance), b"x") for instance in range(4)]
        while len(objects.objects) < 4:
            time.sleep(0.001)
        # All four PUTs are done, and none is answered: there is no marker, and nothing else that they could wait for.
        assert not any(send.done() for send in sends)
        assert not objects.list(KEYS.open)
        objects.gate.set()
        keys = {send.result(PATIENCE_S) for send in sends}
        assert len(keys) == 4
        assert len(objects.list(KEYS.open)) == 1


def test_all_who_wait_for_a_marker_that_fails_are_refused_and_the_next_has_a_batch_of_its_own() -> None:
    objects = MemoryObjects()
    objects.gate.clear()
    objects.broken = KEYS.open
    with running(objects, Limits()) as batches, ThreadPoolExecutor(4) as pool:
        sends = [in_thread(pool, batches, objects, arrival(instance), b"x") for instance in range(4)]
        while len(objects.objects) < 4:
            time.sleep(0.001)
        objects.gate.set()
        for send in sends:
            with pytest.raises(StoreError):
                send.result(PATIENCE_S)
        objects.broken = None
        key = store(batches, objects, arrival(9), b"x")
        assert key.split("/")[1] not in {name.split("/")[1] for name in objects.objects if name.startswith("instances/") and name != key}


def test_what_is_open_and_for_how_long() -> None:
    objects = MemoryObjects()
    with running(objects, Limits()) as batches:
        assert (batches.open_count(), batches.oldest_age_s()) == (0, 0.0)
        store(batches, objects, arrival(1), b"1")
        store(batches, objects, arrival(1, "1.2"), b"1")
        age_s = batches.oldest_age_s()
        assert batches.open_count() == 2
        assert 0 <= age_s <= batches.oldest_age_s()
        assert batches.drain(PATIENCE_S)
        assert (batches.open_count(), batches.oldest_age_s()) == (0, 0.0)


def test_who_waits_too_long_for_the_marker_is_refused() -> None:
    objects = MemoryObjects()
    objects.gate.clear()
    with running(objects, Limits(), wait_s=0.05) as batches:
        ticket = batches.join(arrival(1), 1)
        with pytest.raises(StoreError):
            ticket.committed(1, CRC)


def test_writes_to_one_key_follow_one_another_and_the_last_one_counts() -> None:
    objects = MemoryObjects()
    with running(objects, Limits()) as batches, ThreadPoolExecutor(8) as pool:
        at_once, most, lock = 0, 0, threading.Lock()

        def send(number: int) -> None:
            nonlocal at_once, most
            ticket = batches.join(arrival(1), number)
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.002)
            objects.objects[ticket.key] = bytes(number)
            with lock:
                at_once -= 1
            ticket.committed(number, CRC)

        for done in [pool.submit(send, number) for number in range(1, 17)]:
            done.result(PATIENCE_S)
        assert most == 1
        assert batches.drain(PATIENCE_S)
    (listed,) = objects.list(KEYS.batches)
    manifest = decode_manifest(KEYS, listed.key, objects.objects[listed.key])
    (entry,) = manifest.instances
    assert entry.size == len(objects.objects[entry.key])


def test_a_duplicate_that_waits_is_taken_where_the_first_one_fails() -> None:
    objects = MemoryObjects()
    with running(objects, Limits(), replace=False) as batches, ThreadPoolExecutor(1) as pool:
        first = batches.join(arrival(1), 1)
        second = in_thread(pool, batches, objects, arrival(1), b"x")
        first.failed(may_have_landed=False)
        assert second.result(PATIENCE_S) == first.key


@pytest.mark.parametrize("failing", [False, True], ids=["quiet", "failing"])
def test_everything_that_many_threads_store_is_in_exactly_one_manifest(failing: bool) -> None:
    objects = MemoryObjects()
    acknowledged: set[str] = set()
    with running(objects, Limits(instances=7, size_bytes=300, quiet_s=0.05, age_s=0.2, retry_s=0.01)) as batches:
        keeper = Keeper(batches, time.time, 1.0)
        keeper.start()
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(0.002):
                batches.tick(time.time())

        def faults() -> None:
            while failing and not ended.wait(0.01):
                objects.broken = None if objects.broken else KEYS.batches
            objects.broken = None

        def send(number: int) -> None:
            for instance in range(150):
                what = arrival((number * 7 + instance) % 60, f"1.{instance % 3}", f"association-{number}")
                if instance % 11 == 5:
                    batches.join(what, 10).failed(may_have_landed=instance % 2 == 0)
                    continue
                ticket = batches.join(what, None if instance % 31 == 7 else 10 + number)
                objects.objects[ticket.key] = bytes(10 + number)
                ticket.committed(10 + number, CRC)
                acknowledged.add(ticket.key)

        helpers = [threading.Thread(target=tick), threading.Thread(target=faults)]
        for helper in helpers:
            helper.start()
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(send, number) for number in range(8)]:
                done.result(PATIENCE_S)
        # The helpers tick on until all is closed: a manifest that could not be written is written again.
        objects.broken, failing = None, False
        assert batches.drain(PATIENCE_S)
        ended.set()
        for helper in helpers:
            helper.join(PATIENCE_S)
        keeper.stop()
        with pytest.raises(StoreError):
            batches.join(arrival(1), 1)
    listed: list[str] = []
    for manifest_object in objects.list(KEYS.batches):
        manifest = decode_manifest(KEYS, manifest_object.key, objects.objects[manifest_object.key])
        assert manifest.instance_count <= 7
        for entry in manifest.instances:
            listed.append(entry.key)
            assert entry.size is None or entry.size == len(objects.objects[entry.key])
    assert len(listed) == len(set(listed))
    assert set(listed) == acknowledged
