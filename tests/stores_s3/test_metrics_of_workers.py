"""What two workers count is told as that of one receiver, also when one of them is killed.

Enters: instances over both workers, requests to S3 that fail. Leaves: sums. Never: a counter that falls, a gauge of who is dead.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, serve_options, wait_until
from tests.service_process.test_workers import workers
from tests.stores_s3.s3_server import S3Server

pytestmark = pytest.mark.requires_linux  # workers are found in /proc

HALF_BYTES = 3 << 20


def store(scu: RawScu) -> None:
    made = make()
    assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0


def send_half(scu: RawScu) -> None:
    made = make(pixel_bytes=2 * HALF_BYTES)
    scu.send(b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))[:HALF_BYTES])


def test_sums_over_workers_and_what_is_left_of_one_that_is_killed(plain_server: S3Server) -> None:
    environment = {"AWS_ENDPOINT_URL_S3": plain_server.url}
    options = serve_options(workers=2, put_timeout=10, drain_timeout=20, quiet_period=3600, memory_budget="128MiB")
    with FastScp("s3://bucket/site", *options, environment=environment) as server, ExitStack() as stack:
        peers = [stack.enter_context(RawScu(server.port)) for _ in range(2)]
        for scu, title in zip(peers, (b"CT1", b"CT2"), strict=True):
            scu.associate(calling=title)
            store(scu)
            plain_server.faults["PutObject"].append("slow-down")
            store(scu)
        server.wait_event("batch_opened", 4)
        assert {record["worker"] for record in server.events("batch_opened")} == {1, 2}
        before = server.metrics()
        assert before["fastscp_store_retries_total"] == 2
        assert before["fastscp_open_batches"] == 4
        assert before["fastscp_oldest_batch_age_seconds"] > 0
        assert before["fastscp_memory_budget_bytes"] == 128 << 20
        for title in ("CT1", "CT2"):
            assert before[f'fastscp_sender_instances_total{{calling_aet="{title}"}}'] == 2
            assert before[f'fastscp_sender_bytes_total{{calling_aet="{title}"}}'] == 2 * len(make().data_set)
        for histogram in ("fastscp_answer_seconds", "fastscp_store_seconds"):
            assert before[f"{histogram}_count"] == before[f'{histogram}_bucket{{le="+Inf"}}'] == 4
            assert before[f"{histogram}_sum"] > 0
        for scu in peers:
            send_half(scu)
        wait_until(lambda: server.metric("fastscp_memory_in_use_bytes") >= 2 * (HALF_BYTES - 100_000), "both halves are in memory")

        os.kill(workers(server)[0], signal.SIGKILL)
        server.wait_event("worker_died")
        wait_until(lambda: server.get("/readyz")[0] == 200, "the replacement accepts")
        after = server.metrics()
        counters = [name for name in before if name.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket"))]
        assert len(counters) > 50
        assert {name: after[name] for name in counters if after[name] < before[name]} == {}
        assert after["fastscp_store_retries_total"] == 2
        # Of gauges the living ones'.
        assert HALF_BYTES - 100_000 <= after["fastscp_memory_in_use_bytes"] < 2 * HALF_BYTES
        assert (after["fastscp_associations_active"], after["fastscp_open_batches"]) == (1, 2)
        assert after["fastscp_memory_budget_bytes"] == 128 << 20
        assert after['fastscp_build_info{version="0.1.0"}'] == 1
