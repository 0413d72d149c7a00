"""Metrics of several processes as those of one.

Enters: what each process counts. Leaves: families with the same names and labels, and the text format.
Never: a counter that falls because a process has ended.
"""

from collections.abc import Iterable, Iterator

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from fastscp.observe.tally import MOST_SENDERS, OTHER_SENDERS

LARGEST_COUNTS = frozenset({"fastscp_build_info", "fastscp_oldest_batch_age_seconds"})
"""Gauges of which not the sum over the processes is of interest but the largest."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One line of the text format."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The samples of one metric."""

    name: str
    documentation: str
    kind: str
    samples: list[Sample]


def families_of(registry: CollectorRegistry) -> list[Family]:
    """What a registry counts now."""
    return [
        Family(metric.name, metric.documentation, metric.type, [Sample(s.name, s.labels, s.value) for s in metric.samples])
        for metric in registry.collect()
    ]


def only_counts(families: Iterable[Family]) -> list[Family]:
    """Without gauges: what remains true of a process that has ended."""
    return [family for family in families if family.kind in ("counter", "histogram")]


def merged(processes: Iterable[list[Family]]) -> list[Family]:
    """One family of each name. Its samples are summed over the processes; of `LARGEST_COUNTS` the largest counts, of times the first."""
    order: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in processes:
        for family in families:
            order.setdefault(family.name, family)
            sums = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                before = sums.get(key)
                if before is None:
                    sums[key] = sample.value
                elif sample.name.endswith("_created"):
                    sums[key] = min(before, sample.value)
                elif sample.name in LARGEST_COUNTS:
                    sums[key] = max(before, sample.value)
                else:
                    sums[key] = before + sample.value
    return [
        Family(
            name, first.documentation, first.kind, [Sample(sample, dict(labels), value) for (sample, labels), value in values[name].items()]
        )
        for name, first in order.items()
    ]


class BoundedSenders:
    """The calling AE titles that all processes together count on their own: each keeps to `MOST_SENDERS`, but not to the same ones.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._titles: set[str] = set()

    def bounded(self, families: Iterable[Family]) -> list[Family]:
        """The families, titles beyond the limit as `OTHER_SENDERS`, which then stands more than once: for `merged`.

        What a title is counted as never changes, so that no counter falls.
        """
        return [self._family(family) for family in families]

    def _family(self, family: Family) -> Family:
        samples = [Sample(sample.name, self._labels(sample.labels), sample.value) for sample in family.samples]
        return Family(family.name, family.documentation, family.kind, samples)

    def _labels(self, labels: dict[str, str]) -> dict[str, str]:
        title = labels.get("calling_aet", OTHER_SENDERS)
        if title == OTHER_SENDERS or title in self._titles:
            return labels
        if len(self._titles) < MOST_SENDERS:
            self._titles.add(title)
            return labels
        return labels | {"calling_aet": OTHER_SENDERS}


class _Collected(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.documentation, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def text_of(families: list[Family]) -> bytes:
    """The Prometheus text format, version 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return generate_latest(registry)
