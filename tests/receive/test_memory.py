"""Two senders and memory for one: who waits, who is told to send again, and that nothing acknowledged is missing.

Enters: instances, and a store that stops. Leaves: 0xA700 for one of them. Never: Success for what is not there.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from fastscp.association import acceptor
from fastscp.stores.file import FileStore
from tests.association.inprocess import Running, eventually, nothing_left_open
from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu

MIB = 1 << 20
BUDGET_BYTES = 4 * MIB - (128 << 10)
"""3.9 MB in PDUs of 60 kB hold all of it but 64 KiB: 64, 256, 512 and three times 1024 KiB."""


class StoppingStore(FileStore):
    """A file store whose commits stop until they are let go."""

    committer = None
    spill_from_bytes = 32 * MIB

    def __init__(self, root: Path) -> None:
        super().__init__(root, fsync=False, replace=True)
        self.stopped = threading.Event()
        self.go_on = threading.Event()

    def __enter__(self) -> StoppingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()

    def commit(self, instance: Any, name: Any) -> None:
        self.stopped.set()
        assert self.go_on.wait(60)
        super().commit(instance, name)


class WholeStore(FileStore):
    """A file store to which nothing goes before the instance is complete, as to S3 below the smallest part."""

    def begin_upload(self, instance: Any) -> Any:
        return WholeUpload(self)


class WholeUpload:
    def __init__(self, store: FileStore) -> None:
        self.store = store

    def spill(self, instance: Any) -> None:
        pass

    def commit(self, instance: Any, name: Any) -> None:
        self.store.commit(instance, name)

    def abandon(self) -> None:
        pass


@pytest.fixture
def no_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "RESERVE_BYTES", 0)


def request(made: Made) -> bytes:
    command = enc.store_command(made.sop_class, made.sop_instance)
    return b"".join(enc.message_pdus(1, command, made.data_set, data_pdv_bytes=60_000))


@pytest.mark.usefixtures("no_reserve")
def test_one_sender_waits_for_the_other_and_is_then_refused(tmp_path: Path) -> None:
    store = StoppingStore(tmp_path)
    first, second = make(pixel_bytes=3_900_000), make(pixel_bytes=1_000_000)
    options: dict[str, Any] = {"memory_budget_bytes": BUDGET_BYTES, "spill_threshold_bytes": 32 * MIB, "put_timeout_s": 0.5}
    with nothing_left_open(), Running(store=store, **options) as running:
        with store, running.connect() as holder, running.connect() as waiting:
            holder.associate()
            waiting.associate()
            holder.send(request(first))
            assert store.stopped.wait(30)
            assert running.acceptor.pool.in_use_bytes > len(first.data_set)
            sender = threading.Thread(target=waiting.send, args=(request(second),))
            sender.start()
            answer = waiting.read_response()
            sender.join(30)
            assert answer.status == 0xA700
            assert "memory" in answer.comment
            assert not (tmp_path / second.relative_path).exists()
            store.go_on.set()
            assert holder.read_response().status == 0
            assert read_part10(tmp_path / first.relative_path).data_set == first.data_set
            # What was refused is sent again, and there is room.
            waiting.send(request(second))
            assert waiting.read_response().status == 0
            assert read_part10(tmp_path / second.relative_path).data_set == second.data_set
            holder.release()
            waiting.release()
        running.wait_none_left()
        assert running.sample("fastscp_refusals_total", reason="no_memory") == 1


@pytest.mark.usefixtures("no_reserve")
def test_one_sender_waits_for_the_other_and_is_then_served(tmp_path: Path) -> None:
    store = StoppingStore(tmp_path)
    first, second = make(pixel_bytes=3_900_000), make(pixel_bytes=1_000_000)
    options: dict[str, Any] = {"memory_budget_bytes": BUDGET_BYTES, "spill_threshold_bytes": 32 * MIB, "put_timeout_s": 60.0}
    with nothing_left_open(), Running(store=store, **options) as running:
        with store, running.connect() as holder, running.connect() as waiting:
            holder.associate()
            waiting.associate()
            holder.send(request(first))
            assert store.stopped.wait(30)
            sender = threading.Thread(target=waiting.send, args=(request(second),))
            sender.start()
            assert not waiting.readable(0.3)
            store.go_on.set()
            assert waiting.read_response().status == 0
            assert holder.read_response().status == 0
            sender.join(30)
            holder.release()
            waiting.release()
        running.wait_none_left()
        for made in (first, second):
            assert read_part10(tmp_path / made.relative_path).data_set == made.data_set


def test_senders_that_hold_all_memory_with_half_an_instance_each_go_on_one_by_one(tmp_path: Path) -> None:
    # 960 KiB each of 16 MiB, a quarter of which is the reserve; the next segment is one of 1 MiB.
    made, half_bytes = [make(pixel_bytes=1_900_000) for _ in range(17)], 900_000
    options: dict[str, Any] = {"memory_budget_bytes": 16 * MIB, "spill_threshold_bytes": 32 * MIB, "put_timeout_s": 20.0}
    with nothing_left_open(), Running(store=WholeStore(tmp_path, fsync=False, replace=True), **options) as running:
        peers = [running.connect() for _ in made]
        for scu, one in zip(peers, made, strict=True):
            scu.associate()
            scu.send(request(one)[:half_bytes])
        eventually(lambda: running.acceptor.pool.in_use_bytes >= 12 * MIB - (64 << 10), "there is nothing left but the reserve")
        senders = [threading.Thread(target=scu.send, args=(request(one)[half_bytes:],)) for scu, one in zip(peers, made, strict=True)]
        for sender in senders:
            sender.start()
        assert [scu.read_response().status for scu in peers] == [0] * 17
        for sender in senders:
            sender.join(30)
        for scu in peers:
            scu.release()
            scu.close()
        running.wait_none_left()
        assert running.acceptor.pool.in_use_bytes == 0
    for one in made:
        assert read_part10(tmp_path / one.relative_path).data_set == one.data_set


def test_many_senders_and_little_memory(tmp_path: Path) -> None:
    """Every acknowledged instance is there and whole; every other was refused for want of memory; nobody is left waiting."""
    acknowledged: list[Made] = []
    refused: list[int] = []

    def sender() -> None:
        with running.connect() as scu:
            scu.associate()
            for _ in range(6):
                made = make(pixel_bytes=900_000)
                answer = store_one(scu, made)
                if answer == 0:
                    acknowledged.append(made)
                else:
                    refused.append(answer)
            scu.release()

    options: dict[str, Any] = {"memory_budget_bytes": 4 * MIB, "spill_threshold_bytes": 32 * MIB, "put_timeout_s": 20.0}
    with nothing_left_open(), Running(store=FileStore(tmp_path, fsync=False, replace=True), **options) as running:
        threads = [threading.Thread(target=sender) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        running.wait_none_left()
    assert len(acknowledged) + len(refused) == 48
    assert set(refused) <= {0xA700}
    assert len(acknowledged) > 24
    for made in acknowledged:
        assert read_part10(tmp_path / made.relative_path).data_set == made.data_set


def store_one(scu: RawScu, made: Made) -> int:
    scu.send(request(made))
    return scu.read_response().status


@pytest.mark.usefixtures("no_reserve")
def test_an_abort_frees_a_sender_that_waits_for_memory(tmp_path: Path) -> None:
    store = StoppingStore(tmp_path)
    first, second = make(pixel_bytes=3_900_000), make(pixel_bytes=100_000)
    options: dict[str, Any] = {"memory_budget_bytes": 4 * MIB, "spill_threshold_bytes": 32 * MIB, "put_timeout_s": 1.0}
    with nothing_left_open(), Running(store=store, **options) as running:
        with store, running.connect() as holder, running.connect() as waiting:
            holder.associate()
            waiting.associate()
            holder.send(request(first))
            assert store.stopped.wait(30)
            waiting.send(request(second)[:50_000])
            waiting.reset()
            eventually(lambda: running.sample("fastscp_associations_active") == 1, "the one that waited has ended")
            store.go_on.set()
            assert holder.read_response().status == 0
            holder.release()
        running.wait_none_left()
