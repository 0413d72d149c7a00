"""Who may send, how many, how much.

Enters: more than is allowed. Leaves: the standard's refusal for each limit, and a count. Never: an open door beside a shut one.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.encoding import Context
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import Aborted, PeerClosed, RawScu, Rejected
from tests.peers.rest import assert_back_to, warmed_up
from tests.peers.server import FastScp, serve_options, wait_until

pytestmark = pytest.mark.requires_linux  # what is held is counted in /proc

IDLE_PEERS = 1100
GOOD: dict[str, Any] = {"called": b"STRICT", "calling": b"GOOD"}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastScp]:
    options = ["--aet", "STRICT", "--require-called-aet", "--require-calling-aet", "GOOD", "--require-calling-aet", "FINE"]
    options += serve_options(max_associations=3, sop_classes=enc.CT_IMAGE, on_duplicate="reject", max_pdu=4096)
    options += serve_options(max_instance_size=2**20, memory_budget=4 * 2**20, spill_threshold=2**20, peers="127.0.0.0/8")
    with FastScp(tmp_path_factory.mktemp("strict") / "received", *options) as server:
        yield server
        assert server.stop() == 0, server.log_text()


def rejection(server: FastScp, **request: Any) -> tuple[int, int, int]:
    with RawScu(server.port) as scu:
        with pytest.raises(Rejected) as rejected:
            scu.associate(**request)
        scu.half_close()
        assert scu.wait_closed() == []
        return rejected.value.answer


def test_called_ae_title(strict: FastScp) -> None:
    before = strict.metrics()['fastscp_rejections_total{reason="called_aet"}']
    for called in (b"OTHER", b"strict", b"STRICT2", bytes(16)):
        assert rejection(strict, called=called, calling=b"GOOD") == (1, 1, 7)
    wait_until(lambda: strict.metrics()['fastscp_rejections_total{reason="called_aet"}'] == before + 4, "they are counted")


def test_calling_ae_title(strict: FastScp) -> None:
    before = strict.metrics()['fastscp_rejections_total{reason="calling_aet"}']
    for calling in (b"OTHER", b"good", b"GOOD,FINE", bytes(16)):
        assert rejection(strict, called=b"STRICT", calling=calling) == (1, 1, 3)
    wait_until(lambda: strict.metrics()['fastscp_rejections_total{reason="calling_aet"}'] == before + 4, "they are counted")


@pytest.mark.parametrize("calling", [b"GOOD", b"FINE", b" GOOD", b"FINE" + bytes(12)])
def test_listed_ae_titles_are_accepted_however_padded(strict: FastScp, calling: bytes) -> None:
    with RawScu(strict.port) as scu:
        scu.associate(called=b"STRICT", calling=calling)
        scu.release()


def test_peer_addresses(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", "--peers", "192.0.2.0/24,2001:db8::/32") as server:
        assert rejection(server) == (1, 1, 1)
        wait_until(lambda: server.metrics()['fastscp_rejections_total{reason="peer_address"}'] == 1, "it is counted")
        assert server.stop() == 0


def test_sop_classes(strict: FastScp) -> None:
    contexts = [Context(1, enc.CT_IMAGE), Context(3, "1.2.840.10008.5.1.4.1.1.4"), Context(5, enc.VERIFICATION), Context(7, "1.2.3.4")]
    with RawScu(strict.port) as scu:
        assert scu.associate(contexts, **GOOD).results == {1: 0, 3: 3, 5: 0, 7: 3}
        assert scu.echo(5).status == 0
        scu.release()


def test_a_class_outside_the_list_on_a_context_inside_it(strict: FastScp) -> None:
    """The command and the data set agree with each other, and not with what was negotiated."""
    made = make(sop_class="1.2.840.10008.5.1.4.1.1.4")
    with RawScu(strict.port) as scu:
        scu.associate(**GOOD)
        assert scu.store(made.sop_class, made.sop_instance, made.data_set, data_pdv_bytes=4000).status == 0x0122
        scu.release()
    assert not (strict.store / made.relative_path).exists()


def test_more_associations_than_allowed(strict: FastScp) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(RawScu(strict.port)) for _ in range(3)]
        for scu in peers:
            scu.associate(**GOOD)
        for _ in range(3):
            assert rejection(strict, **GOOD) == (2, 3, 2)
        peers[0].release()
        wait_until(lambda: strict.metric("fastscp_associations_active") == 2, "the slot is free")
        with RawScu(strict.port) as scu:
            scu.associate(**GOOD)
            scu.release()
        for scu in peers[1:]:
            made = make()
            assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            scu.release()
    wait_until(lambda: strict.metric("fastscp_associations_active") == 0, "all slots are free")


def test_duplicates_are_refused_where_that_is_wanted(strict: FastScp) -> None:
    first = make(pixel_bytes=100)
    again = make(pixel_bytes=900, study=first.study, series=first.series, sop_instance=first.sop_instance)
    with RawScu(strict.port) as scu:
        scu.associate(**GOOD)
        assert scu.store(first.sop_class, first.sop_instance, first.data_set).status == 0
        answer = scu.store(again.sop_class, again.sop_instance, again.data_set)
        assert answer.status == 0xC000
        assert "stored already" in answer.comment
        scu.release()
    assert read_part10(strict.store / first.relative_path).data_set == first.data_set
    assert not strict.stray_files()


def test_an_instance_over_the_limit_is_refused_and_the_association_goes_on(strict: FastScp) -> None:
    too_large, fitting = make(pixel_bytes=3 * 2**20), make(pixel_bytes=2**19)
    with RawScu(strict.port) as scu:
        scu.associate(**GOOD)
        answer = scu.store(too_large.sop_class, too_large.sop_instance, too_large.data_set, data_pdv_bytes=4000)
        assert answer.status == 0xA700
        assert answer.comment
        assert scu.store(fitting.sop_class, fitting.sop_instance, fitting.data_set, data_pdv_bytes=4000).status == 0
        scu.release()
    assert not (strict.store / too_large.relative_path).exists()
    assert read_part10(strict.store / fitting.relative_path).data_set == fitting.data_set


def test_the_offered_maximum_length(strict: FastScp) -> None:
    """Over it but not far: read all the same. Far over it: aborted before any of it is read."""
    made = make(pixel_bytes=6000)
    with RawScu(strict.port) as scu:
        assert scu.associate(**GOOD).max_pdu_bytes == 4096
        assert scu.store(made.sop_class, made.sop_instance, made.data_set, data_pdv_bytes=None).status == 0
        too_long = make(pixel_bytes=500_000)
        with pytest.raises((Aborted, PeerClosed, OSError)):
            scu.store(too_long.sop_class, too_long.sop_instance, too_long.data_set, data_pdv_bytes=None)


def wait_for_memory_over(server: FastScp, bound_bytes: float) -> None:
    wait_until(lambda: server.metric("fastscp_memory_in_use_bytes") > bound_bytes, "the first part is there")


def test_memory_that_is_all_taken(tmp_path: Path) -> None:
    """The peer is held back, then told to try later; who has memory is served, and so is the next one."""
    options = serve_options(workers=1, memory_budget=4 * 2**20, spill_threshold=4 * 2**20, put_timeout=1, fsync="no")
    with FastScp(tmp_path / "received", *options) as server, ExitStack() as stack:
        base = warmed_up(server)
        budget_bytes = server.metric("fastscp_memory_budget_bytes")
        holders: list[tuple[RawScu, Made, bytes]] = []
        # A quarter is the reserve: the last of them draws on it, and nobody else may then.
        while server.metric("fastscp_memory_in_use_bytes") <= budget_bytes * 3 // 4:
            assert len(holders) < 200, "the budget is never reached"
            scu, made = stack.enter_context(RawScu(server.port)), make(pixel_bytes=20_000)
            scu.associate()
            stream = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))
            before_bytes = server.metric("fastscp_memory_in_use_bytes")
            scu.send(stream[:15_000])
            wait_for_memory_over(server, before_bytes)
            holders.append((scu, made, stream[15_000:]))
        late = make(pixel_bytes=20_000)
        with RawScu(server.port) as scu:
            scu.associate()
            answer = scu.store(late.sop_class, late.sop_instance, late.data_set)
            assert answer.status == 0xA700
            assert "memory" in answer.comment
            for holder, _, rest in holders:
                holder.send(rest)
            for holder, made, _ in holders:
                assert holder.read_response().status == 0
                assert read_part10(server.store / made.relative_path).data_set == made.data_set
                holder.release()
            assert scu.store(late.sop_class, late.sop_instance, late.data_set).status == 0
            scu.release()
        assert_back_to(server, base, kept_threads=len(holders))
        assert server.stop() == 0


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * IDLE_PEERS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_associations_than_select_can_watch(tmp_path: Path, many_descriptors: None) -> None:
    """Descriptors beyond 1023, all associated at one time, all served."""
    options = serve_options(max_associations=2000, fsync="no")
    with FastScp(tmp_path / "received", *options, max_descriptors=4 * IDLE_PEERS) as server, ExitStack() as stack:
        base, stored_count = warmed_up(server), len(server.stored_files())
        peers = []
        for _ in range(IDLE_PEERS):
            peers.append(stack.enter_context(RawScu(server.port)))
            peers[-1].associate([Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION)])
        assert server.metric("fastscp_associations_active") == IDLE_PEERS
        assert server.resources().descriptors > IDLE_PEERS
        for scu in peers:
            made = make()
            assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            assert scu.echo(3).status == 0
        for scu in peers[:600]:
            scu.release()
        for scu in peers[600:]:
            scu.reset()
        assert len(server.stored_files()) == stored_count + IDLE_PEERS
        assert_back_to(server, base, kept_threads=IDLE_PEERS)
        assert server.stop() == 0
