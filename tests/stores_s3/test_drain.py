"""SIGTERM while several workers put instances into a slow S3.

Enters: bursts of instances, and signals. Leaves: every acknowledged instance in one manifest.
Never: a manifest that is missing, a receiver that outlives its deadlines.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest

from fastscp.batches import Keys
from fastscp.batches.manifest import decode_manifest
from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.dcmtk import dcmtk
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, serve_options, wait_until
from tests.peers.tap import Tap
from tests.service_process.test_drain import burst
from tests.service_process.test_workers import workers
from tests.stores_s3 import s3_server
from tests.stores_s3.s3_server import S3Server

KEYS = Keys("site-a")
LATENCY_S = 0.03


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Each request takes its time."""
    check = s3_server._Handler._check_head

    def late(handler: s3_server._Handler, headers: dict[str, str]) -> None:
        time.sleep(LATENCY_S)
        check(handler, headers)

    monkeypatch.setattr(s3_server._Handler, "_check_head", late)
    with S3Server() as server:
        yield server


def receiver(server: S3Server, *options: str) -> FastScp:
    given = ["--workers", "2", *serve_options(put_timeout=6, drain_timeout=20), *options]
    return FastScp("s3://bucket/site-a", *given, environment={"AWS_ENDPOINT_URL_S3": server.url})


def listed(server: S3Server) -> Counter[str]:
    """How many manifests name each SOP Instance UID."""
    found = [(key, stored.body) for key, stored in server.objects.items() if key.startswith(KEYS.batches)]
    return Counter(entry.sop_instance_uid for key, body in found for entry in decode_manifest(KEYS, key, body).instances)


def test_every_worker_writes_its_manifests(slow: S3Server) -> None:
    acknowledged: list[list[Made]] = [[] for _ in range(4)]
    with receiver(slow, "--put-timeout", "1", "--drain-timeout", "2") as server:
        senders = [threading.Thread(target=burst, args=(server.port, each), daemon=True) for each in acknowledged]
        for sender in senders:
            sender.start()
        wait_until(lambda: all(len(each) >= 5 for each in acknowledged), "every sender is in full flow")
        assert server.metric("fastscp_open_batches") >= 4
        assert server.metric("fastscp_oldest_batch_age_seconds") > 0
        assert server.stop() == 0, server.log_text()
        for sender in senders:
            sender.join(30)
        ended = server.events("association_ended")
        assert {record["worker"] for record in ended} == {1, 2}
        assert {(record["outcome"], record["problem"]) for record in ended} == {("aborted", "the deadline of the drain")}
    named = listed(slow)
    assert {made.sop_instance for each in acknowledged for made in each} <= set(named)
    assert set(named.values()) == {1}


@pytest.mark.requires_dcmtk
def test_bursts_of_storescu(slow: S3Server) -> None:
    sample = str(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    with receiver(slow) as server, Tap(server.port) as tap:
        command = [dcmtk("storescu"), "+II", "--repeat", "300", "127.0.0.1", str(tap.port), sample]
        clients = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
        try:
            wait_until(lambda: server.metrics()['fastscp_instances_total{status="0000"}'] >= 30, "thirty instances")
            assert server.stop() == 0, server.log_text()
            for client in clients:
                client.wait(30)
        finally:
            for client in clients:
                client.kill()
                client.wait(30)
        acknowledged = [each.sop_instance for each in tap.all_stores() if each.status == 0]
    assert len(acknowledged) >= 30
    named = listed(slow)
    assert set(acknowledged) <= set(named)
    assert set(named.values()) == {1}


def test_one_worker_that_drains_writes_its_manifests_and_the_others_go_on(slow: S3Server) -> None:
    with receiver(slow) as server:
        sent = []
        for _ in range(6):
            with RawScu(server.port) as scu:
                made = make()
                scu.associate()
                assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
                scu.release()
                sent.append(made.sop_instance)
        first, _ = workers(server)
        os.kill(first, signal.SIGTERM)
        server.wait_event("worker_drained")
        of_one = set(listed(slow))
        assert of_one <= set(sent)
        wait_until(lambda: server.get("/readyz")[0] == 200, "it is replaced")
        assert server.stop() == 0, server.log_text()
    assert listed(slow) == Counter(sent)


def test_manifests_that_s3_does_not_take_have_a_deadline(slow: S3Server, tmp_path: Path) -> None:
    """The receiver says so, ends, and leaves the batch to its marker."""
    with receiver(slow, "--workers", "1", "--put-timeout", "2", "--drain-timeout", "3") as server:
        made = make()
        with RawScu(server.port) as scu:
            scu.associate()
            assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            scu.send(enc.RELEASE_RQ_PDU)
            scu.expect(enc.RELEASE_RP)
        slow.faults["PutObject"].extend(["stall"] * 1000)
        server.send_signal(signal.SIGTERM)
        assert server.wait_exit() == 1
        assert server.events("batches_left_open") or server.events("store_not_closed")
        assert server.events("drained")[0]["workers_unclean"] == 1
    (key,) = [key for key in slow.objects if key.endswith(made.relative_path)]
    assert KEYS.marker(key.removeprefix("site-a/instances/").split("/")[0]) in slow.objects
    assert not listed(slow)
