"""Metrics of several processes, merged."""

import pytest
from prometheus_client import generate_latest

from fastscp.observe.families import BoundedSenders, Family, families_of, merged, only_counts, text_of
from fastscp.observe.metrics import Metrics
from fastscp.observe.tally import MOST_SENDERS, OTHER_SENDERS


def value(families: list[Family], name: str, **labels: str) -> float:
    (found,) = [sample.value for family in families for sample in family.samples if (sample.name, sample.labels) == (name, labels)]
    return found


@pytest.fixture
def two() -> tuple[Metrics, Metrics]:
    first, second = Metrics("1"), Metrics("1")
    for metrics, dataset_bytes in ((first, 100), (second, 7), (second, 8)):
        metrics.stored(metrics.sender("CT1"), dataset_bytes, 0.002)
        metrics.connection("associated")
        metrics.associations_active.inc()
    second.refused(0xA700, "no_memory", 0.02)
    for metrics in (first, second):
        metrics.track_memory(lambda: 5.0, 50)
    return first, second


def test_one_process_alone_reads_as_it_always_did() -> None:
    metrics = Metrics("1")
    metrics.stored(metrics.sender("CT1"), 1, 0.1)
    assert text_of(families_of(metrics.registry)) == generate_latest(metrics.registry)
    assert text_of(merged([families_of(metrics.registry)])) == generate_latest(metrics.registry)


def test_sums(two: tuple[Metrics, Metrics]) -> None:
    families = merged(families_of(metrics.registry) for metrics in two)
    assert value(families, "fastscp_instances_total", status="0000") == 3
    assert value(families, "fastscp_instances_total", status="A700") == 1
    assert value(families, "fastscp_instance_bytes_total") == 115
    assert value(families, "fastscp_store_seconds_count") == 3
    assert value(families, "fastscp_store_seconds_bucket", le="0.0025") == 3
    assert value(families, "fastscp_store_seconds_bucket", le="0.001") == 0
    assert value(families, "fastscp_associations_active") == 3
    assert value(families, "fastscp_memory_in_use_bytes") == 10
    assert value(families, "fastscp_memory_budget_bytes") == 100
    assert value(families, "fastscp_build_info", version="1") == 1


def test_created_is_the_first_of_all(two: tuple[Metrics, Metrics]) -> None:
    times = [value(families_of(metrics.registry), "fastscp_connections_created", result="empty") for metrics in two]
    assert value(merged(families_of(metrics.registry) for metrics in two), "fastscp_connections_created", result="empty") == min(times)


def test_of_who_has_ended_counters_stay_and_gauges_go(two: tuple[Metrics, Metrics]) -> None:
    first, second = (families_of(metrics.registry) for metrics in two)
    families = merged([only_counts(first), second])
    assert value(families, "fastscp_instance_bytes_total") == 115
    assert value(families, "fastscp_store_seconds_count") == 3
    assert value(families, "fastscp_connections_total", result="associated") == 3
    assert value(families, "fastscp_associations_active") == 2
    assert value(families, "fastscp_memory_in_use_bytes") == 5


def test_a_name_is_there_once(two: tuple[Metrics, Metrics]) -> None:
    lines = text_of(merged(families_of(metrics.registry) for metrics in two)).decode().splitlines()
    names = [line.rsplit(" ", 1)[0] for line in lines]
    assert len(names) == len(set(names))


def test_processes_that_follow_each_other_have_no_more_senders_than_one_and_none_of_their_counts_falls() -> None:
    def by_title(families: list[Family]) -> dict[str, float]:
        (family,) = [family for family in families if family.name == "fastscp_sender_instances"]
        return {sample.labels["calling_aet"]: sample.value for sample in family.samples}

    senders, ended, before = BoundedSenders(), list[Family](), dict[str, float]()
    stored_count = 0
    for process in range(5):
        metrics = Metrics("1")
        for number in range(MOST_SENDERS // 2):
            # Half of them are known from the process before.
            title = f"CT{process * MOST_SENDERS // 4 + number}"
            metrics.stored(metrics.sender(title), 1, 0.002)
            stored_count += 1
            now = by_title(merged([ended, senders.bounded(families_of(metrics.registry))]))
            assert all(now[title] >= count for title, count in before.items())
            assert sum(now.values()) == stored_count
            before = now
        ended = merged([ended, only_counts(senders.bounded(families_of(metrics.registry)))])
        assert by_title(ended) == before
    assert len(before) == MOST_SENDERS + 1
    assert before[OTHER_SENDERS] > 0
