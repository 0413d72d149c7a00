"""A slow S3 costs time and a large instance costs parts: neither costs memory, and nothing is acknowledged that is not stored."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from fastscp.association.acceptor import RESERVE_BYTES
from fastscp.batches import Keys
from fastscp.receive.s3_store import FIRST_PART_BYTES
from fastscp.stores.s3 import EngineKind
from tests.faults.large import large_instance, with_pixels, without_pixels
from tests.faults.proxy import FaultProxy
from tests.faults.sweeping import ServerObjects, check_promise, manifests
from tests.peers import encoding as enc
from tests.peers.datasets import PIXEL_DATA, Made, element, make
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, wait_until
from tests.stores_s3.s3_server import S3Server

MIB = 1 << 20
KEYS = Keys("site")
ASSOCIATIONS = 100
FIRST_WAVE = 56
BUDGET_BYTES = 64 * MIB
INSTANCE_BYTES = 900_000
"""In four segments of 960 KiB together. 56 of them are within the budget less its reserve, 100 are not."""
BESIDE_BUDGET_BYTES = 32 * MIB
"""What 100 associations that send may take beside the memory for instances: connections to S3, and what their threads do."""
DATA_PDV_BYTES = 131_066
LARGE_BYTES = 2 << 30

Start = Callable[..., FastScp]


@pytest.fixture
def proxy(plain_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(plain_server.port) as proxy:
        yield proxy


@pytest.fixture
def start(kind: EngineKind) -> Iterator[Start]:
    """Starts the receiver with the engine under test, at a URL."""
    with ExitStack() as stack:

        def start(url: str, *options: str) -> FastScp:
            given = ("--s3-engine", kind, *options)
            return stack.enter_context(FastScp("s3://bucket/site", *given, environment={"AWS_ENDPOINT_URL_S3": url}))

        yield start


class Peer(threading.Thread):
    """Sends one instance over an association of its own and keeps that open."""

    def __init__(self, scu: RawScu, made: Made) -> None:
        super().__init__()
        self._scu = scu
        self.made = made
        self.status: int | None = None
        self.comment = ""

    def run(self) -> None:
        answer = self._scu.store(self.made.sop_class, self.made.sop_instance, self.made.data_set, data_pdv_bytes=DATA_PDV_BYTES)
        self.status, self.comment = answer.status, answer.comment


def send_over_all(associations: list[RawScu], receiver: FastScp) -> list[Peer]:
    """Have each association send one instance: those of the first wave until they are in memory, then the others until that is full."""
    pixels = bytes(INSTANCE_BYTES)
    peers = [Peer(scu, with_pixels(pixels)) for scu in associations]
    for peer in peers[:FIRST_WAVE]:
        peer.start()
    in_memory_bytes = FIRST_WAVE * 960 * 1024
    wait_until(lambda: receiver.metric("fastscp_memory_in_use_bytes") >= in_memory_bytes, "the first instances are in memory")
    for peer in peers[FIRST_WAVE:]:
        peer.start()
    wait_until(lambda: receiver.metric("fastscp_memory_in_use_bytes") > BUDGET_BYTES - RESERVE_BYTES - MIB, "the budget is used up")
    return peers


@pytest.mark.slow
def test_a_stalled_s3_holds_the_peers_back(start: Start, proxy: FaultProxy, plain_server: S3Server) -> None:
    receiver = start(proxy.url, "--workers", "1", "--memory-budget", str(BUDGET_BYTES), "--put-timeout", "6")
    with ExitStack() as stack:
        associations = [stack.enter_context(RawScu(receiver.port, timeout_s=90.0)) for _ in range(ASSOCIATIONS)]
        for scu in associations:
            scu.associate()
        idle_bytes = receiver.resident_peak_bytes()

        proxy.plans["site"] = lambda call: "silent"
        peers = send_over_all(associations, receiver)
        assert {peer.status for peer in peers} == {None}, "nothing is acknowledged while S3 stands still"
        del proxy.plans["site"]
        for peer in peers:
            peer.join()
        assert {peer.status for peer in peers} == {0}, "all of it is received once S3 goes on"

        proxy.plans["site"] = lambda call: "silent"
        refused = send_over_all(associations, receiver)
        for peer in refused:
            peer.join()
        assert {peer.status for peer in refused} == {0xA700}, "at the deadline each peer is told so"
        assert all(peer.comment for peer in refused)
        del proxy.plans["site"]
        again = [Peer(scu, peer.made) for scu, peer in zip(associations, refused, strict=True)]
        for peer in again:
            peer.start()
        for peer in again:
            peer.join()
        assert {peer.status for peer in again} == {0}, "the associations go on"

        assert receiver.resident_peak_bytes() - idle_bytes < BUDGET_BYTES + BESIDE_BUDGET_BYTES
        assert receiver.metric("fastscp_memory_in_use_bytes") == 0
    assert receiver.stop() == 0
    check_promise(ServerObjects(plain_server), KEYS, [peer.made for peer in peers + again])


@pytest.mark.slow
def test_instances_that_fill_the_budget_by_halves_are_all_received(start: Start, plain_server: S3Server) -> None:
    receiver = start(plain_server.url, "--workers", "1", "--memory-budget", str(BUDGET_BYTES))
    pixels, go_on = bytes(3_000_000), threading.Event()
    made = [with_pixels(pixels) for _ in range(ASSOCIATIONS)]
    statuses: list[int] = []

    def send(scu: RawScu, one: Made) -> None:
        message = b"".join(
            enc.message_pdus(1, enc.store_command(one.sop_class, one.sop_instance), one.data_set, data_pdv_bytes=DATA_PDV_BYTES)
        )
        scu.send(message[:600_000])
        go_on.wait(60)
        scu.send(message[600_000:])
        statuses.append(scu.read_response().status)

    with ExitStack() as stack:
        associations = [stack.enter_context(RawScu(receiver.port, timeout_s=90.0)) for _ in range(ASSOCIATIONS)]
        for scu in associations:
            scu.associate()
        senders = [threading.Thread(target=send, args=both) for both in zip(associations, made, strict=True)]
        for sender in senders:
            sender.start()
        wait_until(lambda: receiver.metric("fastscp_memory_in_use_bytes") > BUDGET_BYTES - RESERVE_BYTES - MIB, "the budget is used up")
        go_on.set()
        for sender in senders:
            sender.join()
    assert statuses == [0] * ASSOCIATIONS
    assert receiver.stop() == 0
    check_promise(ServerObjects(plain_server), KEYS, made)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_gigabytes_in_four_parts_of_memory(start: Start, plain_server: S3Server) -> None:
    plain_server.keep_parts = False
    receiver = start(plain_server.url)
    made = make()
    head = without_pixels(made) + element(PIXEL_DATA, "OW", b"", length=LARGE_BYTES)
    first, *_ = enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), None)
    middle = enc.pdu(enc.P_DATA, enc.pdv(1, bytes(1 << 16), command=False, last=False))
    last = enc.pdu(enc.P_DATA, enc.pdv(1, b"", command=False, last=True))
    with RawScu(receiver.port, timeout_s=300.0) as scu:
        scu.associate()
        small = large_instance(12 * MIB)
        assert scu.store(small.sop_class, small.sop_instance, small.data_set).status == 0
        before_bytes = receiver.resident_peak_bytes()
        scu.send(first + enc.pdu(enc.P_DATA, enc.pdv(1, head, command=False, last=False)))
        many = middle * 64
        for _ in range(LARGE_BYTES // (64 << 16)):
            scu.send(many)
        scu.send(last)
        assert scu.read_response().status == 0
    assert receiver.resident_peak_bytes() - before_bytes <= 4 * FIRST_PART_BYTES
    assert receiver.stop() == 0
    (key,) = [key for key in plain_server.objects if key.endswith(made.relative_path)]
    (entry,) = [entry for manifest in manifests(ServerObjects(plain_server), KEYS) for entry in manifest.instances if entry.key == key]
    assert entry.crc64nvme == plain_server.objects[key].checksum
    assert not plain_server.uploads
