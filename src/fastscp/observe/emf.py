"""Metrics as lines of CloudWatch's embedded metric format, which CloudWatch Logs takes out of the log by itself.

Enters: the merged families of all processes. Leaves: a line about every minute, and one at the end.
Never: the same growth in two lines, a label that a peer chose, a dimension with more than one value.
"""

import threading
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from types import TracebackType
from typing import Literal, NamedTuple, get_args

import msgspec

from fastscp.observe.families import Family, Sample
from fastscp.observe.log import write_line
from fastscp.observe.metrics import AssociationOutcome

PERIOD_S = 60.0
"""CloudWatch keeps one value for each minute."""

SERVICE = "receiver"
"""Value of the dimension Service. Whose receiver it is the namespace says."""

Unit = Literal["Count", "Bytes", "Seconds", "Percent"]


class _Counter(NamedTuple):
    """A metric that is what a counter grew by.

    Attributes:
        values: those of the counter's one label that count; all where empty.
    """

    name: str
    unit: Unit
    sample: str
    values: frozenset[str] = frozenset()

    def counts(self, sample: Sample) -> bool:
        return sample.name == self.sample and (not self.values or not self.values.isdisjoint(sample.labels.values()))


class _Gauge(NamedTuple):
    """A metric that is what a gauge says now."""

    name: str
    unit: Unit
    sample: str


COUNTERS = (
    _Counter("Instances", "Count", "fastscp_instances_total", frozenset({"0000"})),
    _Counter("InstanceBytes", "Bytes", "fastscp_instance_bytes_total"),
    _Counter("InstancesRefused", "Count", "fastscp_refusals_total"),
    _Counter("StoresFailed", "Count", "fastscp_refusals_total", frozenset({"store_failed", "no_memory", "internal_error"})),
    _Counter("Associations", "Count", "fastscp_associations_total", frozenset(get_args(AssociationOutcome)) - {"rejected"}),
    _Counter("AssociationsRejected", "Count", "fastscp_rejections_total"),
    _Counter("StoreRetries", "Count", "fastscp_store_retries_total"),
)
GAUGES = (
    _Gauge("AssociationsActive", "Count", "fastscp_associations_active"),
    _Gauge("BytesInFlight", "Bytes", "fastscp_memory_in_use_bytes"),
    _Gauge("OpenBatches", "Count", "fastscp_open_batches"),
    _Gauge("OldestBatchAge", "Seconds", "fastscp_oldest_batch_age_seconds"),
)
BUDGET_USED = "BudgetUsed"
"""Bytes in flight in percent of the memory budget."""
ANSWER_TIME = "AnswerTime"
"""How long the answers took, as a distribution: of each bucket its upper bound, so that no percentile is better than it was."""

UNITS: dict[str, Unit] = {metric.name: metric.unit for metric in (*COUNTERS, *GAUGES)} | {BUDGET_USED: "Percent", ANSWER_TIME: "Seconds"}
"""Unit by name of all metrics that a line may have."""


class EmfLines:
    """Makes lines, each of which begins where the one before ended. Not thread-safe.

    What no process counts at the time is not in the line: the share of a budget once all have ended, retries without the S3 store.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._before: dict[tuple[str, ...], float] = {}

    def line(self, families: Iterable[Family], now_s: float) -> str:
        """A JSON object.

        Args:
            now_s: seconds since the epoch.
        """
        samples = [sample for family in families for sample in family.samples]
        values: dict[str, object] = {}
        for counter in COUNTERS:
            if counted := [sample for sample in samples if counter.counts(sample)]:
                values[counter.name] = sum(self._growth((counter.name, *sample.labels.values()), sample.value) for sample in counted)
        now = {sample.name: sample.value for sample in samples if not sample.labels}
        values |= {gauge.name: round(now[gauge.sample], 3) for gauge in GAUGES if gauge.sample in now}
        if budget_bytes := now.get("fastscp_memory_budget_bytes"):
            values[BUDGET_USED] = round(100 * now["fastscp_memory_in_use_bytes"] / budget_bytes, 3)
        if distribution := self._distribution([sample for sample in samples if sample.name == "fastscp_answer_seconds_bucket"]):
            values[ANSWER_TIME] = distribution
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [["Service"]],
            "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
        }
        document = {"_aws": {"Timestamp": round(now_s * 1000), "CloudWatchMetrics": [directive]}, "Service": SERVICE}
        return msgspec.json.encode(document | values).decode()

    def _growth(self, series: tuple[str, ...], value: float) -> float:
        before, self._before[series] = self._before.get(series, 0.0), value
        return value - before

    def _distribution(self, buckets: list[Sample]) -> dict[str, object]:
        """Values and how often each came, in the form that AWS's exporter for OpenTelemetry writes; empty where none came."""
        ordered = sorted((float(sample.labels["le"]), sample.value) for sample in buckets)
        counts: dict[float, float] = {}
        for (below, count_below), (bound, count) in pairwise([(0.0, 0.0), *ordered]):
            # Beyond the last bound: at least that.
            value = bound if bound != float("inf") else below
            grown = self._growth((ANSWER_TIME, str(bound)), count - count_below)
            if grown:
                counts[value] = counts.get(value, 0.0) + grown
        if not counts:
            return {}
        return {
            "Values": list(counts),
            "Counts": list(counts.values()),
            "Min": min(counts),
            "Max": max(counts),
            "Count": sum(counts.values()),
            "Sum": sum(value * count for value, count in counts.items()),
        }


class EmfReporter:
    """Writes lines to the log from a thread of its own while its `with` block runs, and the last one at the end of that."""

    def __init__(self, namespace: str, families: Callable[[], list[Family]], period_s: float = PERIOD_S) -> None:
        """
        Args:
            families: asked for each line.
        """
        self._lines = EmfLines(namespace)
        self._families = families
        self._period_s = period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="emf", daemon=True)

    def __enter__(self) -> "EmfReporter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        self._write()

    def _run(self) -> None:
        while not self._stopping.wait(self._period_s):
            self._write()

    def _write(self) -> None:
        write_line(self._lines.line(self._families(), time.time()))
