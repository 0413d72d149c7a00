"""The receiver is killed at every step between a PUT, its marker, Success and the manifest: what it acknowledged will be imported once.

The proxy holds one call, so that the kill comes exactly there; the call is then lost, lands late, or had landed before.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import pytest

from fastscp.batches import Keys
from fastscp.stores.s3 import EngineKind
from tests.faults.large import large_instance
from tests.faults.proxy import FaultProxy, Hold
from tests.faults.sweeping import ServerObjects, check_promise, manifests
from tests.peers.datasets import Made, make
from tests.peers.raw_scu import PeerClosed, RawScu
from tests.peers.server import FastScp, wait_until
from tests.stores_s3.s3_server import S3Server

Fate = Literal["lost", "late", "landed"]

KEYS = Keys("site")
MIB = 1 << 20

SMALL = ["PutObject-open-1", "PutObject-instances-1", "PutObject-instances-2", "PutObject-batches-1"]
LARGE = [
    "PutObject-open-1",
    "CreateMultipartUpload-instances-1",
    "UploadPart-instances-1",
    "UploadPart-instances-2",
    "CompleteMultipartUpload-instances-1",
    "PutObject-batches-1",
]


@pytest.fixture
def proxy(plain_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(plain_server.port) as proxy:
        yield proxy


Start = Callable[..., FastScp]


@pytest.fixture
def start(proxy: FaultProxy) -> Iterator[Start]:
    """Starts the receiver with its store behind the proxy."""
    started: list[FastScp] = []

    def start(kind: EngineKind, *more: str) -> FastScp:
        options = ("--s3-engine", kind, "--spill-threshold", "6MiB", *(more or ("--put-timeout", "30")))
        started.append(FastScp("s3://bucket/site", *options, environment={"AWS_ENDPOINT_URL_S3": proxy.url}))
        return started[-1]

    yield start
    for receiver in started:
        receiver.kill()


class Sender(threading.Thread):
    """A peer that sends one instance after the other until it is told otherwise."""

    def __init__(self, port: int, instances: list[Made]) -> None:
        super().__init__()
        self._port = port
        self._instances = instances
        self.acknowledged: list[Made] = []

    def run(self) -> None:
        with RawScu(self._port, timeout_s=60.0) as scu, suppress(PeerClosed, ConnectionError):
            scu.associate()
            for made in self._instances:
                if scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0:
                    self.acknowledged.append(made)


def killed_at(target: str, fate: Fate, receiver: FastScp, proxy: FaultProxy, server: S3Server, instances: list[Made]) -> list[Made]:
    """Send, kill the receiver at that call, and let the call go on as it should. Returns what was acknowledged."""
    hold = Hold(after=fate == "landed")
    proxy.plans["site"] = lambda call: hold if str(call) == target else None
    sender = Sender(receiver.port, instances)
    sender.start()
    if "batches" in target and len(instances) > 1:
        sender.join()
        receiver.send_signal(signal.SIGTERM)
    hold.wait_reached()
    # The marker and the first PUT go side by side: the other one is through before the kill.
    other = {"PutObject-open-1": "/instances/", "PutObject-instances-1": "/open/"}.get(target) if len(instances) > 1 else None
    wait_until(lambda: other is None or any(other in key for key in list(server.objects)), "the other of the two calls is through")
    receiver.kill()
    sender.join()
    calls_before = len(server.requests)
    hold.release(drop=fate == "lost")
    wait_until(lambda: fate != "late" or len(server.requests) > calls_before, "the late call is there")
    return sender.acknowledged


@pytest.mark.parametrize("fate", ["lost", "late", "landed"])
@pytest.mark.parametrize("target", SMALL)
def test_killed_at_a_call(start: Start, kind: EngineKind, proxy: FaultProxy, plain_server: S3Server, target: str, fate: Fate) -> None:
    first = make()
    instances = [first, make(study=first.study, series=first.series)]
    acknowledged = killed_at(target, fate, start(kind), proxy, plain_server, instances)
    assert len(acknowledged) == {"PutObject-instances-2": 1, "PutObject-batches-1": 2}.get(target, 0)
    objects = ServerObjects(plain_server)
    wait_until(lambda: fate != "late" or target != "PutObject-batches-1" or bool(manifests(objects, KEYS)), "the late manifest is there")
    if "batches" in target:
        assert len(manifests(objects, KEYS)) == (fate != "lost")
    check_promise(objects, KEYS, acknowledged)


@pytest.mark.parametrize("fate", ["lost", "landed"])
@pytest.mark.parametrize("target", LARGE)
def test_killed_at_a_call_of_an_upload(start: Start, proxy: FaultProxy, plain_server: S3Server, target: str, fate: Fate) -> None:
    # Both engines send parts in the same way.
    acknowledged = killed_at(target, fate, start("auto"), proxy, plain_server, [large_instance(9 * MIB)])
    # The manifest is written beside the answer.
    assert not acknowledged or "batches" in target
    check_promise(ServerObjects(plain_server), KEYS, acknowledged)


def test_a_drain_that_cannot_close_its_batches_leaves_them_to_the_sweeper(start: Start, proxy: FaultProxy, plain_server: S3Server) -> None:
    proxy.plans["site"] = lambda call: "silent" if call.area == "batches" else None
    receiver = start("auto", "--put-timeout", "3")
    instances = [make(), make()]
    sender = Sender(receiver.port, instances)
    sender.run()
    assert sender.acknowledged == instances
    assert receiver.stop() == 1
    assert receiver.events("batches_left_open")
    assert not manifests(ServerObjects(plain_server), KEYS)
    written = check_promise(ServerObjects(plain_server), KEYS, instances)
    assert [manifest.closed_by for manifest in written] == ["sweeper"] * 2


def test_killed_after_success_the_next_one_goes_on(start: Start, kind: EngineKind, proxy: FaultProxy, plain_server: S3Server) -> None:
    before = [make() for _ in range(3)]
    first = start(kind)
    sender = Sender(first.port, before)
    sender.run()
    assert sender.acknowledged == before
    first.kill()
    assert not manifests(ServerObjects(plain_server), KEYS)
    after = [make(study=made.study, series=made.series) for made in before]
    second = start(kind)
    sender = Sender(second.port, after)
    sender.run()
    assert sender.acknowledged == after
    assert second.stop() == 0
    written = check_promise(ServerObjects(plain_server), KEYS, [*before, *after])
    assert sorted(manifest.closed_by for manifest in written) == ["sweeper"] * 3 + ["worker"] * 3
