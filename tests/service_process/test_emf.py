"""The last line of metrics for CloudWatch: there when the drain has ended, with what all workers counted.

Enters: instances, one that is refused, a rejected association, SIGTERM. Leaves: one line. Never: a line that nobody asked for.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers.datasets import Made, make
from tests.peers.raw_scu import RawScu, Rejected
from tests.peers.server import FastScp, serve_options

LIMIT_BYTES = 100_000


def counted(server: FastScp) -> tuple[int, int]:
    """Give work to every worker and drain. Returns the number of instances stored and of their bytes."""
    stored: list[Made] = []
    with ExitStack() as stack:
        for _ in range(4):
            scu = stack.enter_context(RawScu(server.port))
            scu.associate()
            for _ in range(3):
                stored.append(make())
                assert scu.store(stored[-1].sop_class, stored[-1].sop_instance, stored[-1].data_set).status == 0
        large = make(pixel_bytes=2 * LIMIT_BYTES)
        assert scu.store(large.sop_class, large.sop_instance, large.data_set).status == 0xA700
        with RawScu(server.port) as one_more, pytest.raises(Rejected):
            one_more.associate()
    assert server.stop() == 0
    return len(stored), sum(len(made.data_set) for made in stored)


def test_the_last_line_has_what_all_workers_counted(tmp_path: Path) -> None:
    options = serve_options(workers=2, max_associations=4, max_instance_size=LIMIT_BYTES, emf_namespace="fastscp/site")
    with FastScp(tmp_path / "received", *options) as server:
        instance_count, dataset_bytes = counted(server)
        (line,) = [record for record in server.records if "_aws" in record]
        assert server.records[-1] == line
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "fastscp/site"
    assert {name: line[name] for name in ("Instances", "InstanceBytes", "InstancesRefused", "StoresFailed")} == {
        "Instances": instance_count,
        "InstanceBytes": dataset_bytes,
        "InstancesRefused": 1,
        "StoresFailed": 0,
    }
    assert (line["Associations"], line["AssociationsRejected"]) == (4, 1)
    assert line["AnswerTime"]["Count"] == instance_count + 1
    assert line["AssociationsActive"] == line["BytesInFlight"] == 0
    # Nobody is left who has one.
    assert "BudgetUsed" not in line


def test_nobody_asked(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", *serve_options(workers=2, max_associations=4, max_instance_size=LIMIT_BYTES)) as server:
        counted(server)
    assert "_aws" not in server.log_text()
