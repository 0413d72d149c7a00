"""Associations whose ordinary instances are committed natively: who sees them, what is told of them, when they no longer are stored.

Enters: instances of all kinds, handlers that come and go. Leaves: files, the log's record, metrics. Never: an instance that is not counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from structlog.testing import capture_logs

from fastscp.stores.file import FileStore
from fastscp.stores.null import NullStore
from tests.association.inprocess import Handler, Running, eventually, nothing_left_open, releasing_soon
from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.encoding import Context
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu

CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION)]
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    with nothing_left_open():
        yield


class Established:
    """The associations, as their handlers of EVT_ESTABLISHED saw them: an event that has nothing to do with instances."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def handlers(self) -> list[Handler]:
        return [(evt.EVT_ESTABLISHED, lambda event: self.seen.append(event.assoc))]

    @property
    def last(self) -> Any:
        eventually(lambda: bool(self.seen), "the association is established")
        return self.seen[-1]

    @property
    def committed(self) -> int:
        """Instances of the last one that took the native way."""
        return int(self.last._wire.committed[0])


def send(scu: RawScu, made: Made, message_id: int = 1) -> int:
    status = scu.store(made.sop_class, made.sop_instance, made.data_set, message_id=message_id).status
    assert status is not None
    return status


def message(made: Made, message_id: int = 1) -> bytes:
    return b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance, message_id), made.data_set))


# Who sees them.


@pytest.mark.parametrize("event", [evt.EVT_C_STORE, evt.EVT_DIMSE_RECV, evt.EVT_DIMSE_SENT], ids=lambda event: event.name)
def test_a_handler_sees_each_from_the_next_on_and_none_once_it_is_unbound(tmp_path: Path, event: Any) -> None:
    """Bound and unbound by another thread, while the association waits."""
    seen: list[Any] = []

    def handler(event: evt.Event) -> int:
        seen.append(event)
        return 0x0000

    established, made = Established(), [make() for _ in range(8)]
    with Running(established.handlers(), store=FileStore(tmp_path, fsync=False, replace=True)) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            for _ in range(2):
                assert send(scu, made[0]) == send(scu, made[1]) == 0x0000
                before = established.committed
                established.last.bind(event, handler)
                assert send(scu, made[2]) == send(scu, made[3]) == send(scu, made[4]) == 0x0000
                assert established.committed == before
                established.last.unbind(event, handler)
                assert send(scu, made[5]) == 0x0000
                assert established.committed == before + 1
            scu.release()
        running.wait_none_left()
        assert len(seen) == 6
        assert established.committed == 6
        assert running.sample("fastscp_instances_total", status="0000") == 12
        assert sorted(path.name for path in tmp_path.rglob("*.dcm")) == sorted(f"{each.sop_instance}.dcm" for each in made[:6])


def test_a_handler_that_is_bound_refuses_the_next() -> None:
    established = Established()
    with Running(established.handlers()) as running, running.connect() as scu:
        scu.associate(CONTEXTS)
        assert send(scu, make()) == 0x0000
        established.last.bind(evt.EVT_C_STORE, lambda event: 0xA700)
        assert send(scu, make()) == 0xA700
        assert established.committed == 1


def test_a_handler_that_another_binds_inside_a_message(tmp_path: Path) -> None:
    seen: list[str] = []

    def store(event: evt.Event) -> int:
        seen.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    def echo(event: evt.Event) -> int:
        bound = event.assoc.get_handlers(evt.EVT_C_STORE)[0] is store
        (event.assoc.unbind if bound else event.assoc.bind)(evt.EVT_C_STORE, store)
        return 0x0000

    made = [make() for _ in range(6)]
    echo_request = b"".join(enc.message_pdus(3, enc.echo_command(), None))
    with Running([(evt.EVT_C_ECHO, echo)], store=FileStore(tmp_path, fsync=False, replace=True)) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            # All at once: what comes behind the echo has arrived before the handler is bound.
            first, second, third = (b"".join(map(message, made[at : at + 2])) for at in (0, 2, 4))
            scu.send(first + echo_request + second + echo_request + third)
            for _ in range(8):
                assert scu.read_response().status == 0x0000
            scu.release()
        running.wait_none_left()
        assert seen == [each.sop_instance for each in made[2:4]]
        assert len(list(tmp_path.rglob("*.dcm"))) == 6


@pytest.mark.parametrize("limited", [True, False])
def test_a_limit_of_sop_classes_is_kept_inside_a_context_that_was_accepted(tmp_path: Path, limited: bool) -> None:
    """An instance of another class may come on it; it is as ordinary as any."""
    established, allowed, other = Established(), make(), make(sop_class=MR_IMAGE)
    store, sop_classes = FileStore(tmp_path, fsync=False, replace=True), (enc.CT_IMAGE,) if limited else ()
    with Running(established.handlers(), store=store, sop_classes=sop_classes) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert send(scu, allowed) == 0x0000
            assert send(scu, other) == (0x0122 if limited else 0x0000)
            assert send(scu, allowed) == 0x0000
            scu.release()
        running.wait_none_left()
        assert established.committed == (0 if limited else 3)
        assert (tmp_path / allowed.relative_path).exists()
        assert (tmp_path / other.relative_path).exists() is not limited
        assert running.sample("fastscp_instances_total", status="0000") == (2 if limited else 3)
        assert running.sample("fastscp_refusals_total", reason="sop_class_not_supported") == (1 if limited else 0)


def test_a_store_without_a_committer_commits_each_itself() -> None:
    class OwnStore(NullStore):
        committer = None  # type: ignore[assignment]

    established = Established()
    with Running(established.handlers(), store=OwnStore()) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert send(scu, make()) == send(scu, make()) == 0x0000
            scu.release()
        running.wait_none_left()
        assert established.committed == 0
        assert running.sample("fastscp_instances_total", status="0000") == 2


# What is told of them.


def record_of(act: Callable[[RawScu], None], **options: Any) -> tuple[Running, dict[str, Any]]:
    """What the log has of one association."""
    with capture_logs() as logs, Running(**options) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            act(scu)
        running.wait_none_left()
    (record,) = [each for each in logs if each["event"] == "association_ended"]
    return running, record


@pytest.mark.parametrize("end", ["release", "abort", "close", "reset"])
def test_native_and_other_instances_are_counted_together(end: str) -> None:
    ordinary = [make(pixel_bytes=size) for size in (0, 64, 10_000, 200_000)]
    odd = make(study="1.2.03")
    refused = make(study=None)
    mismatched = make()

    def act(scu: RawScu) -> None:
        for _ in range(3):
            for each in ordinary:
                assert send(scu, each) == 0x0000
            assert send(scu, odd) == 0x0000
        assert send(scu, refused) == 0xC000
        assert scu.store(mismatched.sop_class, "1.2.3", mismatched.data_set).status == 0xA900
        assert send(scu, ordinary[0]) == 0x0000
        getattr(scu, end)()

    running, record = record_of(act)
    stored = [*ordinary, odd] * 3 + [ordinary[0]]
    stored_bytes = sum(len(each.data_set) for each in stored)
    assert record["statuses"] == {"0000": 16, "A900": 1, "C000": 1}
    assert record["instances"] == 18
    assert record["dataset_bytes"] == stored_bytes + len(refused.data_set) + len(mismatched.data_set)
    assert running.sample("fastscp_instances_total", status="0000") == 16
    assert running.sample("fastscp_instances_total", status="A900") == 1
    assert running.sample("fastscp_instances_total", status="C000") == 1
    assert running.sample("fastscp_instance_bytes_total") == stored_bytes
    assert running.sample("fastscp_sender_instances_total", calling_aet="RAWSCU") == 16
    assert running.sample("fastscp_sender_bytes_total", calling_aet="RAWSCU") == stored_bytes
    assert running.sample("fastscp_store_seconds_count") == 16
    assert running.sample("fastscp_answer_seconds_count") == 18
    assert running.sample("fastscp_nonconformant_uids_total") == 3


def test_only_native_instances() -> None:
    made = make()
    _, record = record_of(lambda scu: [send(scu, made) for _ in range(5)] and scu.release())
    assert (record["statuses"], record["instances"], record["dataset_bytes"]) == ({"0000": 5}, 5, 5 * len(made.data_set))


def test_an_association_that_stored_nothing_has_no_status() -> None:
    for act in (lambda scu: scu.release(), lambda scu: scu.echo(3) and scu.abort()):
        _, record = record_of(act)
        assert (record["statuses"], record["instances"], record["dataset_bytes"]) == ({}, 0, 0)
    _, record = record_of(lambda scu: send(scu, make(study=None)) and scu.release())
    assert record["statuses"] == {"C000": 1}


def test_many_associations_are_counted_exactly(tmp_path: Path) -> None:
    made = [make(pixel_bytes=2 * number) for number in range(100)]
    ready = threading.Barrier(4)

    def associate(number: int) -> None:
        with running.connect() as scu:
            scu.associate(CONTEXTS, calling=b"SCU%d" % (number % 2))
            ready.wait(30)
            for each in made[25 * number : 25 * number + 25]:
                assert send(scu, each) == 0x0000
            scu.release()

    with Running(store=FileStore(tmp_path, fsync=True, replace=False)) as running:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(associate, range(4)))
        running.wait_none_left()
        assert running.sample("fastscp_instances_total", status="0000") == 100
        assert running.sample("fastscp_instance_bytes_total") == sum(len(each.data_set) for each in made)
        assert [running.sample("fastscp_sender_instances_total", calling_aet=f"SCU{number}") for number in (0, 1)] == [50, 50]
        for each in made:
            assert read_part10(tmp_path / each.relative_path).data_set == each.data_set


# When they no longer are stored.


@pytest.mark.parametrize("answered", [True, False])
def test_an_instance_after_our_own_release_request_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: bool) -> None:
    releasing_soon(monkeypatch)
    before, after = make(), make()
    with Running(store=FileStore(tmp_path, fsync=False, replace=True)) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert send(scu, before) == 0x0000
            running.acceptor.begin_drain()
            scu.expect(enc.RELEASE_RQ)
            scu.send(message(after) * 2 + (enc.RELEASE_RP_PDU if answered else b""))
            scu.half_close()
            assert scu.wait_closed() == []
        running.wait_none_left()
        assert running.sample("fastscp_instances_total", status="0000") == 1
        assert [path.name for path in tmp_path.rglob("*.dcm")] == [f"{before.sop_instance}.dcm"]


def test_an_instance_that_had_begun_before_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releasing_soon(monkeypatch)
    made, following = make(pixel_bytes=50_000), make()
    with Running(store=FileStore(tmp_path, fsync=False, replace=True)) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            stream = message(made)
            scu.send(stream[:20_000])
            eventually(lambda: running.acceptor.pool.in_use_bytes > 0, "it has begun")
            running.acceptor.begin_drain()
            assert not scu.readable(0.2)
            scu.send(stream[20_000:] + message(following))
            assert [scu.read_response().status for _ in range(2)] == [0x0000, 0x0000]
            scu.expect(enc.RELEASE_RQ)
            scu.send(enc.RELEASE_RP_PDU)
            assert scu.wait_closed() == []
        running.wait_none_left()
        assert {path.name for path in tmp_path.rglob("*.dcm")} == {f"{each.sop_instance}.dcm" for each in (made, following)}
