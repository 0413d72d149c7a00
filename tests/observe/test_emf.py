"""Lines of the embedded metric format: against the specification's rules, and what they say of what was counted.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import io
import json
import math
import threading
from typing import Any, get_args

import pytest

from fastscp.errors import RefusalReason
from fastscp.observe import emf, log
from fastscp.observe.emf import UNITS, EmfLines, EmfReporter
from fastscp.observe.families import Family, families_of, merged, only_counts
from fastscp.observe.metrics import AssociationOutcome, Metrics
from fastscp.observe.tally import BUCKETS_S

NOW_S = 1_700_000_000.25
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
UNITS_OF_CLOUDWATCH = {"Count", "Bytes", "Seconds", "Percent"}


class Receiver:
    """The counters of some processes, and the lines made of them."""

    def __init__(self, workers: int = 1, *, batches: bool = True) -> None:
        self.metrics = [Metrics("1") for _ in range(workers)]
        self.batches = (2.0, 33.25, 0.0)
        for metrics in self.metrics:
            metrics.track_memory(lambda: 30.0, 40)
            if batches:
                metrics.track_batches(lambda: self.batches[0], lambda: self.batches[1], lambda: self.batches[2])
        self.lines = EmfLines("fastscp/site")

    def families(self) -> list[Family]:
        return merged(families_of(metrics.registry) for metrics in self.metrics)

    def line(self, families: list[Family] | None = None) -> dict[str, Any]:
        text = self.lines.line(self.families() if families is None else families, NOW_S)
        assert "\n" not in text
        # The largest write to a pipe that never mixes with another process': POSIX, PIPE_BUF of Linux.
        assert len(text) < 4096
        return checked(json.loads(text))


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """The document, whose structure is as the specification wants it."""
    assert set(document["_aws"]) == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(document["_aws"]["Timestamp"], int)
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert 1 <= len(directive["Namespace"]) <= 255
    assert directive["Dimensions"] == [["Service"]]
    assert document["Service"] == "receiver"
    assert 1 <= len(directive["Metrics"]) <= 100
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert len(names) == len(set(names))
    assert set(document) == {"_aws", "Service", *names}
    for metric in directive["Metrics"]:
        assert metric == {"Name": metric["Name"], "Unit": UNITS[metric["Name"]]}
        value = document[metric["Name"]]
        if not isinstance(value, dict):
            assert is_number(value)
            continue
        assert set(value) == {"Values", "Counts", "Min", "Max", "Count", "Sum"}
        assert 1 <= len(value["Values"]) == len(value["Counts"]) <= 100
        assert len(set(value["Values"])) == len(value["Values"])
        assert all(map(is_number, [*value["Values"], *value["Counts"], value["Sum"]]))
        assert min(value["Counts"]) > 0
        assert (value["Min"], value["Max"]) == (min(value["Values"]), max(value["Values"]))
        assert value["Count"] == sum(value["Counts"])
        assert value["Min"] * value["Count"] <= value["Sum"] <= value["Max"] * value["Count"]
    return document


def store(metrics: Metrics, dataset_bytes: int, store_s: float) -> None:
    metrics.stored(metrics.sender("CT1"), dataset_bytes, store_s)


def test_units_are_those_of_cloudwatch() -> None:
    assert set(UNITS.values()) == UNITS_OF_CLOUDWATCH
    assert len(UNITS) == len(emf.COUNTERS) + len(emf.GAUGES) + 2


def test_nothing_has_happened() -> None:
    line = Receiver(batches=False).line()
    assert line["_aws"]["Timestamp"] == 1_700_000_000_250
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "fastscp/site"
    assert set(line) == {"_aws", "Service", *UNITS} - {"StoreRetries", "AnswerTime"}
    assert line["Instances"] == line["InstancesRefused"] == line["AssociationsRejected"] == 0
    assert (line["BytesInFlight"], line["BudgetUsed"]) == (30, 75)


def test_everything_has_happened() -> None:
    receiver = Receiver(workers=2)
    receiver.batches = (2.0, 33.25, 4.0)
    first, second = receiver.metrics
    store(first, 100, 0.002)
    store(second, 11, 0.02)
    first.associations_active.inc()
    for reason in get_args(RefusalReason):
        second.refused(0xA700, reason, 0.3)
    for outcome in get_args(AssociationOutcome):
        first.association_ended(outcome)
    second.rejected("local_limit")
    line = receiver.line()
    assert set(line) == {"_aws", "Service", *UNITS}
    assert {name: line[name] for name in UNITS if name != "AnswerTime"} == {
        "Instances": 2,
        "InstanceBytes": 111,
        "InstancesRefused": len(get_args(RefusalReason)),
        "StoresFailed": 3,
        "Associations": len(get_args(AssociationOutcome)) - 1,
        "AssociationsRejected": 1,
        "StoreRetries": 8,
        "AssociationsActive": 1,
        "BytesInFlight": 60,
        "BudgetUsed": 75,
        "OpenBatches": 4,
        "OldestBatchAge": 33.25,
    }
    assert line["AnswerTime"]["Values"] == [0.0025, 0.025, 0.5]
    assert line["AnswerTime"]["Counts"] == [1, 1, len(get_args(RefusalReason))]


def test_counters_are_told_once_and_gauges_each_time() -> None:
    receiver = Receiver()
    for expected in ([(7, 0.002)], [], [(1, 0.002), (2, 0.04)], []):
        for dataset_bytes, store_s in expected:
            store(receiver.metrics[0], dataset_bytes, store_s)
        line = receiver.line()
        assert line["Instances"] == len(expected)
        assert line["InstanceBytes"] == sum(dataset_bytes for dataset_bytes, _ in expected)
        assert line.get("AnswerTime", {"Count": 0})["Count"] == len(expected)
        assert (line["BytesInFlight"], line["OpenBatches"], line["OldestBatchAge"]) == (30, 2, 33.25)


def test_the_distribution_has_every_bucket() -> None:
    receiver = Receiver()
    receiver.line()
    for number, bound_s in enumerate(BUCKETS_S, 1):
        for _ in range(number):
            store(receiver.metrics[0], 1, bound_s)
    # Longer than the last bound: told as that.
    store(receiver.metrics[0], 1, 1000.0)
    answered = receiver.line()["AnswerTime"]
    assert answered["Values"] == list(BUCKETS_S)
    assert answered["Counts"] == [*range(1, len(BUCKETS_S)), len(BUCKETS_S) + 1]


def test_once_all_have_ended_only_counts_are_told() -> None:
    receiver = Receiver()
    store(receiver.metrics[0], 5, 0.1)
    line = receiver.line(only_counts(receiver.families()))
    assert line["Instances"] == 1
    assert set(UNITS) - set(line) == {"AssociationsActive", "BytesInFlight", "BudgetUsed", "OpenBatches", "OldestBatchAge"}


def test_no_peer_gets_a_word_in() -> None:
    receiver = Receiver()
    metrics = receiver.metrics[0]
    for title in ("DOE^JANE", "evil\n{}", "X" * 16):
        metrics.stored(metrics.sender(title), 1, 0.1)
    text = receiver.lines.line(receiver.families(), NOW_S)
    assert "DOE" not in text
    assert "evil" not in text
    assert "XX" not in text


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_reporter_writes_lines_and_one_at_its_end_whatever_the_log_level_is(log_format: log.LogFormat) -> None:
    stream = io.StringIO()
    log.configure("error", log_format, stream)
    receiver = Receiver()
    store(receiver.metrics[0], 5, 0.1)
    asked = threading.Semaphore(0)

    def families() -> list[Family]:
        asked.release()
        return receiver.families()

    with EmfReporter("fastscp/site", families, period_s=0.001):
        for _ in range(3):
            assert asked.acquire(timeout=30)
    lines = [checked(json.loads(line)) for line in stream.getvalue().splitlines()]
    assert len(lines) >= 3
    assert [line["Instances"] for line in lines] == [1] + [0] * (len(lines) - 1)


@pytest.mark.usefixtures("restored_logging")
def test_the_last_line_has_what_came_after_the_one_before() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    receiver = Receiver()
    with EmfReporter("fastscp/site", receiver.families, period_s=3600):
        store(receiver.metrics[0], 5, 0.1)
    (line,) = stream.getvalue().splitlines()
    assert checked(json.loads(line))["InstanceBytes"] == 5
