"""The numbers in the text that a scraper reads."""

import re
import threading
from typing import get_args

import pytest

from fastscp.observe import metrics as module
from fastscp.observe.families import families_of, text_of
from fastscp.observe.metrics import Metrics
from fastscp.observe.tally import MOST_SENDERS, OTHER_SENDERS


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def value(metrics: Metrics, sample: str) -> float:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text_of(families_of(metrics.registry)).decode(), re.MULTILINE)
    assert found, f"{sample} is not in the text"
    return float(found[1])


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("associations", "outcome", module.AssociationOutcome),
        ("rejections", "reason", module.RejectionReason),
        ("connections", "result", module.ConnectionResult),
        ("refusals", "reason", module.RefusalReason),
    ],
)
def test_every_label_value_is_there_from_the_start(metrics: Metrics, name: str, label: str, values: object) -> None:
    for one in get_args(values):
        assert value(metrics, f'fastscp_{name}_total{{{label}="{one}"}}') == 0


def test_labelled_counters_count_their_own(metrics: Metrics) -> None:
    metrics.connection("empty")
    metrics.rejected("peer_address")
    metrics.association_ended("timed_out")
    metrics.association_ended("timed_out")
    metrics.negotiation(hit=True)
    assert value(metrics, 'fastscp_connections_total{result="empty"}') == 1
    assert value(metrics, 'fastscp_connections_total{result="associated"}') == 0
    assert value(metrics, 'fastscp_rejections_total{reason="peer_address"}') == 1
    assert value(metrics, 'fastscp_associations_total{outcome="timed_out"}') == 2
    assert value(metrics, 'fastscp_negotiation_cache_total{result="hit"}') == 1
    assert value(metrics, 'fastscp_negotiation_cache_total{result="miss"}') == 0


def test_instances_are_counted_by_status_in_hexadecimal(metrics: Metrics) -> None:
    metrics.stored(metrics.sender("CT1"), 1000, 0.002)
    metrics.stored(metrics.sender("CT1"), 500, 0.2)
    metrics.refused(0xA900, "sop_class_mismatch", 0.02)
    assert value(metrics, 'fastscp_instances_total{status="0000"}') == 2
    assert value(metrics, 'fastscp_instances_total{status="A900"}') == 1
    assert value(metrics, "fastscp_instance_bytes_total") == 1500
    assert value(metrics, 'fastscp_refusals_total{reason="sop_class_mismatch"}') == 1


def test_store_seconds_is_a_cumulative_histogram(metrics: Metrics) -> None:
    for seconds in (0.001, 0.0011, 99.0):
        metrics.stored(metrics.sender("CT1"), 1, seconds)
    assert value(metrics, 'fastscp_store_seconds_bucket{le="0.0005"}') == 0
    assert value(metrics, 'fastscp_store_seconds_bucket{le="0.001"}') == 1
    assert value(metrics, 'fastscp_store_seconds_bucket{le="0.0025"}') == 2
    assert value(metrics, 'fastscp_store_seconds_bucket{le="60.0"}') == 2
    assert value(metrics, 'fastscp_store_seconds_bucket{le="+Inf"}') == 3
    assert value(metrics, "fastscp_store_seconds_count") == 3
    assert value(metrics, "fastscp_store_seconds_sum") == pytest.approx(99.0021)


def test_gauges(metrics: Metrics) -> None:
    in_use = 7
    metrics.track_memory(lambda: in_use, 100)
    metrics.associations_active.inc()
    metrics.nonconformant_uid()
    assert value(metrics, "fastscp_memory_in_use_bytes") == 7
    in_use = 8
    assert value(metrics, "fastscp_memory_in_use_bytes") == 8
    assert value(metrics, "fastscp_memory_budget_bytes") == 100
    assert value(metrics, "fastscp_associations_active") == 1
    assert value(metrics, "fastscp_nonconformant_uids_total") == 1
    assert value(metrics, 'fastscp_build_info{version="1.2.3"}') == 1


def test_two_instances_share_nothing(metrics: Metrics) -> None:
    metrics.stored(metrics.sender("CT1"), 1, 0.1)
    assert value(Metrics("1"), 'fastscp_instances_total{status="0000"}') == 0


def test_no_count_is_lost_between_threads(metrics: Metrics) -> None:
    def work() -> None:
        for _ in range(5000):
            metrics.stored(metrics.sender("CT1"), 3, 0.01)
            metrics.refused(0xA700, "no_memory", 0.02)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, 'fastscp_instances_total{status="0000"}') == 20000
    assert value(metrics, 'fastscp_instances_total{status="A700"}') == 20000
    assert value(metrics, "fastscp_instance_bytes_total") == 60000
    assert value(metrics, "fastscp_store_seconds_count") == 20000


def test_senders_are_counted_by_their_title_and_are_not_too_many(metrics: Metrics) -> None:
    first = metrics.sender("CT 1")
    metrics.stored(first, 1000, 0.1)
    metrics.stored(first, 500, 0.1)
    assert metrics.sender("CT 1") is first
    assert value(metrics, 'fastscp_sender_instances_total{calling_aet="CT 1"}') == 2
    assert value(metrics, 'fastscp_sender_bytes_total{calling_aet="CT 1"}') == 1500
    for number in range(3 * MOST_SENDERS):
        metrics.stored(metrics.sender(f"X{number}"), 1, 0.1)
    others = 3 * MOST_SENDERS - (MOST_SENDERS - 1)
    assert value(metrics, f'fastscp_sender_instances_total{{calling_aet="{OTHER_SENDERS}"}}') == others
    text = text_of(families_of(metrics.registry)).decode()
    assert text.count("fastscp_sender_instances_total{") == MOST_SENDERS + 1


@pytest.mark.parametrize("title", ["Ä", "a\nb", "\x1b[2J", "\u202e"])
def test_a_title_that_is_none_is_no_label(metrics: Metrics, title: str) -> None:
    metrics.stored(metrics.sender(title), 1, 0.1)
    assert value(metrics, f'fastscp_sender_instances_total{{calling_aet="{OTHER_SENDERS}"}}') == 1


def test_a_title_with_quotes_stays_in_its_label(metrics: Metrics) -> None:
    metrics.stored(metrics.sender('a"} 9'), 1, 0.1)
    assert value(metrics, r'fastscp_sender_instances_total{calling_aet="a\"} 9"}') == 1


def test_answers_are_those_that_stored_and_those_that_refused(metrics: Metrics) -> None:
    metrics.stored(metrics.sender("A"), 1, 0.002)
    metrics.refused(0xA700, "no_memory", 3.0)
    assert value(metrics, "fastscp_answer_seconds_count") == 2
    assert value(metrics, "fastscp_answer_seconds_sum") == pytest.approx(3.002)
    assert value(metrics, 'fastscp_answer_seconds_bucket{le="2.5"}') == 1
    assert value(metrics, "fastscp_store_seconds_count") == 1


def test_batches_are_asked_for_when_somebody_scrapes(metrics: Metrics) -> None:
    now = {"open": 2, "age": 7.5, "retries": 3}
    metrics.track_batches(lambda: now["open"], lambda: now["age"], lambda: now["retries"])
    now["open"] = 4
    assert value(metrics, "fastscp_open_batches") == 4
    assert value(metrics, "fastscp_oldest_batch_age_seconds") == 7.5
    assert value(metrics, "fastscp_store_retries_total") == 3
