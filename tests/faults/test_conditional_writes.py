"""If-None-Match at a server that others wrote (moto, in a process of its own): of all that close one batch, exactly one does."""

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from fastscp.batches import Keys
from fastscp.receive.s3_objects import S3Objects
from fastscp.stores import StoreHealth
from fastscp.stores.s3 import Engine, ObjectAttributes, PreconditionFailed
from tests.faults.proxy import FaultProxy, Hold
from tests.faults.receiving import Association, running
from tests.faults.sweeping import LATER_S, check_promise, sweep
from tests.peers.datasets import make
from tests.stores_s3.conftest import OpenEngine

PLAIN = ObjectAttributes("application/json", {})
DEADLINE_S = 30.0
WRITERS = 8


@pytest.fixture(scope="module")
def moto_port() -> Iterator[int]:
    """A moto server with a bucket called `bucket`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        give_up_at = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert process.poll() is None, "moto ended"
            assert time.monotonic() < give_up_at, "moto does not listen"
            time.sleep(0.05)
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT"), timeout=30):
            pass
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """A prefix that no other test uses."""
    return str(abs(hash(request.node.nodeid)))


def objects_of(engine: Engine) -> S3Objects:
    return S3Objects(engine, DEADLINE_S, StoreHealth(lambda ready, why: None))


def test_the_second_of_two_writes_does_not_happen(open_at: OpenEngine, moto_port: int, store: str) -> None:
    engine = open_at(f"http://127.0.0.1:{moto_port}")
    engine.put(f"{store}/a", [b"first"], attributes=PLAIN, deadline_s=DEADLINE_S, if_none_match=True)
    with pytest.raises(PreconditionFailed) as caught:
        engine.put(f"{store}/a", [b"second"], attributes=PLAIN, deadline_s=DEADLINE_S, if_none_match=True)
    assert not caught.value.may_be_ours
    assert engine.get_bytes(f"{store}/a", deadline_s=DEADLINE_S) == b"first"
    engine.put(f"{store}/a", [b"third"], attributes=PLAIN, deadline_s=DEADLINE_S)
    assert engine.get_bytes(f"{store}/a", deadline_s=DEADLINE_S) == b"third"


def test_of_many_writes_at_once_one_happens(open_at: OpenEngine, moto_port: int, store: str) -> None:
    engine = open_at(f"http://127.0.0.1:{moto_port}")
    together = threading.Barrier(WRITERS)
    won: list[bytes] = []

    def write(number: int) -> None:
        together.wait()
        if objects_of(engine).put_if_absent(f"{store}/a", b"%d" % number):
            won.append(b"%d" % number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(won) == 1
    assert engine.get_bytes(f"{store}/a", deadline_s=DEADLINE_S) == won[0]


@pytest.mark.parametrize("first", ["worker", "sweeper"])
def test_a_worker_and_a_sweeper_close_one_batch(open_at: OpenEngine, moto_port: int, store: str, first: str) -> None:
    keys = Keys(store)
    instances = [make()]
    instances += [make(study=instances[0].study, series=instances[0].series) for _ in range(3)]
    with FaultProxy(moto_port) as proxy:
        engine = open_at(proxy.url)
        direct = objects_of(open_at(f"http://127.0.0.1:{moto_port}"))
        # Held with the answer, the worker was first, and does not know it yet when the sweeper comes.
        hold = Hold(after=first == "worker")
        proxy.plans[store] = lambda call: hold if str(call) == "PutObject-batches-1" else None
        with running(engine, store) as receiving:
            association = Association(receiving)
            assert [association.send(made) for made in instances] == [0] * 4
            association.close()
            assert receiving.open_batches() == 1
            assert receiving.oldest_batch_age_s() > 0
            closing = threading.Thread(target=receiving.close)
            closing.start()
            hold.wait_reached()
            sweep(direct, keys, time.time() + LATER_S)
            hold.release()
            closing.join()
            assert receiving.open_batches() == 0
            assert receiving.oldest_batch_age_s() == 0
    (manifest,) = check_promise(direct, keys, instances)
    assert manifest.closed_by == first


def test_a_manifest_whose_answer_was_lost_is_the_workers_own(open_at: OpenEngine, moto_port: int, store: str) -> None:
    made = make()
    with FaultProxy(moto_port) as proxy:
        proxy.plans[store] = lambda call: "reset-after-commit" if str(call) == "PutObject-batches-1" else None
        with running(open_at(proxy.url, attempt_timeout_s=3.0, connect_timeout_s=0.5), store) as receiving:
            association = Association(receiving)
            assert association.send(made) == 0
            association.close()
            before = receiving.retry_count()
            receiving.close()
            assert receiving.retry_count() == before + 1
    (manifest,) = check_promise(objects_of(open_at(f"http://127.0.0.1:{moto_port}")), Keys(store), [made])
    assert manifest.closed_by == "worker"
