"""End to end: CT instances over loopback into a receiver of its own process, from the load source.

Enters: a receiver. Leaves: instances per second (`instances_per_s` in the JSON; the time shown is for INSTANCES of them).
Never: the comparison itself, which is `python -m benchmarks`.
"""

from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import payloads
from benchmarks.contenders import CONTENDERS, running
from benchmarks.load import Load, LoadResult, PreparedLoad

INSTANCES = 500
ROUNDS = 5


@pytest.mark.benchmark(group=f"end to end, {INSTANCES} CT")
@pytest.mark.parametrize("associations", [1, 5])
@pytest.mark.parametrize("name", ["fastscp-null", "fastscp-file", "floor-null", "floor-file"])
def test_end_to_end(benchmark: BenchmarkFixture, fast_directory: Path, name: str, associations: int) -> None:
    """One receiver for all rounds, after one that is not counted."""
    load = PreparedLoad(payloads.ct(), fast_directory)
    results: list[LoadResult] = []
    with running(CONTENDERS[name], fast_directory / name) as receiver:

        def establish() -> tuple[tuple[Load], dict[str, object]]:
            return (load.open(receiver.place.port, associations=associations, instances_each=INSTANCES // associations),), {}

        def send(run: Load) -> None:
            results.append(run.run())

        def release(run: Load) -> None:
            with run:
                pass

        benchmark.pedantic(send, setup=establish, teardown=release, rounds=ROUNDS, warmup_rounds=1)
    assert all(result.instances == INSTANCES for result in results)
    benchmark.extra_info["instances_per_s"] = median(result.instances / result.seconds for result in results[1:])
