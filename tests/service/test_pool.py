"""What workers counted, while they end."""

from pathlib import Path
from typing import Any, cast

from fastscp.observe.families import Family, families_of
from fastscp.observe.metrics import Metrics
from fastscp.service.handover import Report
from fastscp.service.pool import WorkerPool
from fastscp.service.process import WorkerProcess
from fastscp.settings import load_settings


class Counting:
    """A worker that has counted: as much of a WorkerProcess as metrics need."""

    index = load = 0
    state = "accepting"
    problem = None

    def __init__(self, stored_count: int) -> None:
        metrics = Metrics("1")
        for _ in range(stored_count):
            metrics.stored(metrics.sender("CT1"), 1, 0.1)
        self.report = Report(1, families_of(metrics.registry), {})

    def ask(self) -> int:
        return 1

    def wait_report(self, _number: int, _deadline: float) -> bool:
        return True


def stored(families: list[Family]) -> float:
    return sum(sample.value for family in families for sample in family.samples if sample.name == "fastscp_sender_instances_total")


def test_what_a_worker_counted_is_told_once_whatever_is_known_of_its_end(tmp_path: Path) -> None:
    settings, _ = load_settings({"store": f"file:{tmp_path}", "workers": "1"})
    pool = WorkerPool(settings, ("127.0.0.1", 0))
    worker, stand_in = Counting(3), cast(Any, pool)
    stand_in._workers[0] = worker
    assert stored(pool.families()) == 3
    worker.state = "ended"
    assert stored(pool.families()) == 3
    stand_in._after(cast(WorkerProcess, worker), 0)
    assert stored(pool.families()) == 3
    stand_in._workers[0] = Counting(2)
    assert stored(pool.families()) == 5
    pool.close()
