"""Workers that are stopped, cut off, raced and set to another time: what they acknowledged is in exactly one manifest.

Their leases are short, and the sweeper's clock is ahead by the whole allowance, so that no test waits for more than a few seconds.
"""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from fastscp.batches import Keys, Listed
from fastscp.batches.sweep import CLOCK_SKEW_S
from fastscp.stores.s3 import EngineKind
from tests.faults.proxy import Call, Fault, FaultProxy, Hold
from tests.faults.sweeping import LATER_S, ServerObjects, check_promise, manifests, sweep
from tests.faults.worker_process import Worker
from tests.peers.datasets import Made, make
from tests.peers.server import wait_until
from tests.stores_s3.s3_server import S3Server

KEYS = Keys("site")


@pytest.fixture
def proxy(plain_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(plain_server.port) as proxy:
        yield proxy


@pytest.fixture
def objects(plain_server: S3Server) -> ServerObjects:
    return ServerObjects(plain_server)


def next_of(made: Made) -> Made:
    return make(study=made.study, series=made.series)


def sweep_until_closed(objects: ServerObjects) -> None:
    """A sweeper whose clock is ahead by as much as is allowed comes again and again, until it has closed a batch."""
    wait_until(lambda: sweep(objects, KEYS, time.time() + CLOCK_SKEW_S) > 0, "the sweeper closes the batch")


def test_stopped_with_a_put_on_its_way_until_the_sweeper_has_closed_the_batch(
    proxy: FaultProxy, objects: ServerObjects, kind: EngineKind
) -> None:
    first = make()
    second = next_of(first)
    hold = Hold(after=False)
    proxy.plans["site"] = lambda call: hold if str(call) == "PutObject-instances-2" else None
    with Worker(proxy.url, kind, "site") as worker:
        assert worker.send(first) == 0
        worker.begin(second)
        hold.wait_reached()
        worker.signal(signal.SIGSTOP)
        sweep_until_closed(objects)
        hold.release()
        wait_until(lambda: any(listed.key.endswith(second.relative_path) for listed in objects.list("site/")), "the late PUT is there")
        worker.signal(signal.SIGCONT)
        assert worker.status(second) == 0xA700
        (manifest,) = manifests(objects, KEYS)
        assert [entry.sop_instance_uid for entry in manifest.instances] == [first.sop_instance]
        # The peer sends it again.
        assert worker.send(second) == 0
        worker.begin_drain()
        worker.wait_drained()
        written = check_promise(objects, KEYS, [first, second])
        assert sorted(manifest.closed_by for manifest in written) == ["sweeper", "worker"]


def test_stopped_before_it_knows_that_the_marker_is_there(proxy: FaultProxy, objects: ServerObjects) -> None:
    made = make()
    hold = Hold(after=True)
    proxy.plans["site"] = lambda call: hold if str(call) == "PutObject-open-1" else None
    with Worker(proxy.url, "auto", "site") as worker:
        worker.begin(made)
        hold.wait_reached()
        wait_until(lambda: bool(list(objects.list("site/instances/"))), "the instance is there")
        worker.signal(signal.SIGSTOP)
        sweep_until_closed(objects)
        hold.release()
        worker.signal(signal.SIGCONT)
        assert worker.status(made) == 0xA700, "the lease was over before it was known"
        worker.begin_drain()
        worker.wait_drained()
    assert len(manifests(objects, KEYS)) == 1
    check_promise(objects, KEYS, [])


def test_cut_off_for_renewals_only(proxy: FaultProxy, objects: ServerObjects, kind: EngineKind) -> None:
    seen: set[str] = set()

    def no_renewals(call: Call) -> Fault | None:
        again = call.area == "open" and call.key in seen
        seen.add(call.key)
        return "reset" if again else None

    proxy.plans["site"] = no_renewals
    first = make()
    with Worker(proxy.url, kind, "site") as worker:
        assert worker.send(first) == 0
        sweep_until_closed(objects)
        second = next_of(first)
        assert worker.send(second) == 0, "the study goes on in another batch"
        worker.begin_drain()
        worker.wait_drained()
    written = check_promise(objects, KEYS, [first, second])
    assert sorted(manifest.closed_by for manifest in written) == ["sweeper", "worker"]


class Interrupted(ServerObjects):
    """The object store of a sweeper that stands still before it lists a batch's instances."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(server)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def list(self, prefix: str) -> Iterator[Listed]:
        if "/instances/" in prefix:
            self.reached.set()
            assert self.go_on.wait(30)
        return super().list(prefix)


@pytest.mark.parametrize("first", ["worker", "sweeper", "either"])
def test_two_close_a_batch_at_once(proxy: FaultProxy, plain_server: S3Server, objects: ServerObjects, kind: EngineKind, first: str) -> None:
    """The worker's manifest is on its way when a sweeper has found none: one that is too early, so that it meets a worker that lives."""
    instances = [make()]
    instances += [next_of(instances[0]) for _ in range(3)]
    hold = Hold(after=False)
    proxy.plans["site"] = lambda call: hold if str(call) == "PutObject-batches-1" else None
    sweeping = Interrupted(plain_server)
    sweeper = threading.Thread(target=sweep, args=(sweeping, KEYS, time.time() + LATER_S))
    with Worker(proxy.url, kind, "site") as worker:
        for made in instances:
            assert worker.send(made) == 0
        worker.begin_drain()
        hold.wait_reached()
        sweeper.start()
        assert sweeping.reached.wait(30)
        if first != "worker":
            sweeping.go_on.set()
        if first == "sweeper":
            sweeper.join()
        hold.release()
        worker.wait_drained()
        sweeping.go_on.set()
        sweeper.join()
    written = check_promise(objects, KEYS, instances)
    assert [manifest.closed_by for manifest in written] == [first] or first == "either"
    assert len(written) == 1


@pytest.mark.parametrize("ahead", ["worker", "sweeper"])
@pytest.mark.parametrize("store_skew_s", [-CLOCK_SKEW_S / 2, CLOCK_SKEW_S / 2])
def test_clocks_that_differ_by_the_allowance(plain_server: S3Server, objects: ServerObjects, ahead: str, store_skew_s: float) -> None:
    half_s = CLOCK_SKEW_S / 2
    worker_skew_s, sweeper_skew_s = (half_s, -half_s) if ahead == "worker" else (-half_s, half_s)
    plain_server.clock_skew_s = store_skew_s
    ended = threading.Event()

    def go_on_sweeping() -> None:
        while not ended.wait(0.05):
            sweep(objects, KEYS, time.time() + sweeper_skew_s)

    sweeper = threading.Thread(target=go_on_sweeping)
    first = make()
    with Worker(plain_server.url, "auto", "site", skew_s=worker_skew_s) as worker:
        sweeper.start()
        try:
            worker.send(first)
            for _ in range(30):
                time.sleep(0.1)  # For a lease and a half.
                worker.send(next_of(first))
        finally:
            worker.kill()
            ended.set()
            sweeper.join()
    assert len(worker.acknowledged()) > 1
    check_promise(objects, KEYS, worker.acknowledged())
