"""One of two workers is killed with batches open and an upload under way: nothing is lost, and nobody else notices.

Enters: instances over both workers, SIGKILL for one. Leaves: manifests of the living, a lease that runs out of the dead.
Never: an acknowledged instance that is neither listed nor marked, a file left on the disk.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fastscp.batches import Keys
from tests.faults.large import large_instance
from tests.faults.sweeping import ServerObjects, check_promise, manifests
from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.raw_scu import PeerClosed, RawScu
from tests.peers.server import FastScp, serve_options, wait_until
from tests.service_process.test_workers import workers
from tests.stores_s3.s3_server import S3Server

pytestmark = pytest.mark.requires_linux  # workers are found in /proc

KEYS = Keys("site")


def store(scu: RawScu, *instances: Made) -> None:
    for made in instances:
        assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0


def worker_of(server: FastScp, batches_before: int) -> int:
    """The number of the worker that opened the batch after so many."""
    number = server.wait_event("batch_opened", batches_before + 1)["worker"]
    assert isinstance(number, int)
    return number


def test_a_worker_that_dies_leaves_its_batches_to_their_lease(plain_server: S3Server, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {"AWS_ENDPOINT_URL_S3": plain_server.url, "TMPDIR": str(scratch)}
    options = serve_options(workers=2, spill_threshold="6MiB", put_timeout=10, drain_timeout=20, quiet_period=3600)
    objects, large = ServerObjects(plain_server), large_instance(30 << 20)
    dead, kept = [make(), make()], [make(), make()]
    with FastScp("s3://bucket/site", *options, environment=environment) as server, RawScu(server.port) as here:
        with RawScu(server.port) as there:
            for scu in (here, there):
                scu.associate()
            store(here, kept[0])
            store(there, dead[0])
            living, dying = worker_of(server, 0), worker_of(server, 1)
            assert {living, dying} == {1, 2}
            store(there, dead[1])
            # More than a part of a large one is on its way.
            stream = b"".join(enc.message_pdus(1, enc.store_command(large.sop_class, large.sop_instance), large.data_set))
            there.send(stream[: 20 << 20])
            wait_until(lambda: plain_server.count("UploadPart") >= 1, "a part has arrived")
            os.kill(workers(server)[dying - 1], signal.SIGKILL)
            died = server.wait_event("worker_died")
            assert (died["worker"], died["connections_lost"]) == (dying, 1)
            with pytest.raises((PeerClosed, OSError)):
                there.read_pdu()
        # The other one goes on with its batch; a new one takes what comes.
        store(here, make(study=kept[0].study), kept[1])
        wait_until(lambda: server.get("/readyz")[0] == 200, "the replacement accepts")
        again = [make(study=made.study, series=made.series) for made in dead]
        with RawScu(server.port) as scu:
            scu.associate()
            store(scu, *again)
            scu.release()
        markers = {listed.key for listed in objects.list(KEYS.open)}
        metrics = server.metrics()
        assert metrics["fastscp_open_batches"] == 4
        assert metrics["fastscp_oldest_batch_age_seconds"] > 0
        assert metrics['fastscp_instances_total{status="0000"}'] >= 3 + len(again)
        here.release()
        assert server.stop() == 0
        closed = {record["batch"] for record in server.events("batch_closed")}
    assert list(scratch.rglob("*")) == []
    # Those of the living are closed, in the batches that they had; those of the dead wait for the end of their lease.
    listed = {entry.sop_instance_uid for manifest in manifests(objects, KEYS) for entry in manifest.instances}
    assert listed >= {made.sop_instance for made in [*kept, *again]}
    assert not listed & {made.sop_instance for made in [*dead, large]}
    left = {key for key in markers if key.removeprefix(KEYS.open).removesuffix(".json") not in closed}
    assert len(left) == len(dead) + 1
    assert check_promise(objects, KEYS, [], later_s=0) == manifests(objects, KEYS), "a lease that has not run out is nobody else's"
    written = check_promise(objects, KEYS, [*dead, *kept, *again])
    assert sorted(manifest.closed_by for manifest in written) == ["sweeper"] * 2 + ["worker"] * 4
    # What nobody can answer for is no object; the bucket's lifecycle rule removes the parts.
    assert not [key for key in plain_server.objects if key.endswith(large.relative_path)]
