"""The counters and gauges of one process.

Enters: one call for each thing that happened. Leaves: the Prometheus text format.
Never: global state, a label value that a peer chose.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fastscp.errors import RefusalReason

AssociationOutcome = Literal["released", "aborted_by_peer", "aborted", "rejected", "closed", "timed_out"]
RejectionReason = Literal[
    "called_aet",
    "calling_aet",
    "peer_address",
    "local_limit",
    "draining",
    "protocol_version",
    "application_context",
    "user_identity",
]
ConnectionResult = Literal["associated", "empty", "garbage", "refused", "timed_out"]

STORE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class _InstanceTally(Collector):
    """What is counted for every instance, behind one lock: prometheus_client's own counters cost five times as much."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_status: dict[int, int] = {0x0000: 0}
        self._stored_bytes = 0
        self._by_duration = [0] * (len(STORE_BUCKETS_S) + 1)
        self._duration_s = 0.0

    def add_refused(self, status: int) -> None:
        with self._lock:
            self._by_status[status] = self._by_status.get(status, 0) + 1

    def add_stored(self, dataset_bytes: int, store_s: float) -> None:
        bucket = bisect_left(STORE_BUCKETS_S, store_s)
        with self._lock:
            self._by_status[0x0000] += 1
            self._stored_bytes += dataset_bytes
            self._by_duration[bucket] += 1
            self._duration_s += store_s

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            by_status = dict(self._by_status)
            stored_bytes = self._stored_bytes
            by_duration = list(self._by_duration)
            duration_s = self._duration_s
        instances = CounterMetricFamily("fastscp_instances", "C-STORE requests answered, by status (four hex digits).", labels=["status"])
        for status, count in sorted(by_status.items()):
            instances.add_metric([f"{status:04X}"], count)
        yield instances
        yield CounterMetricFamily("fastscp_instance_bytes", "Data set bytes of the instances stored.", value=stored_bytes)
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip([*map(str, STORE_BUCKETS_S), "+Inf"], by_duration, strict=True):
            total += count
            buckets.append((bound, total))
        durations = HistogramMetricFamily("fastscp_store_seconds", "Time from a complete instance to its commit.")
        durations.add_metric([], buckets, duration_s)
        yield durations


def _labelled(registry: CollectorRegistry, name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
    """A counter's children by label value, all there from the start, so that a rate over the first event is not lost."""
    counter = Counter(name, text, [label], namespace="fastscp", registry=registry)
    return {value: counter.labels(value) for value in values}


class Metrics:
    """All metrics of one process, in a registry of its own. Thread-safe."""

    def __init__(self, version: str) -> None:
        registry = self.registry = CollectorRegistry()
        self._instances = _InstanceTally()
        registry.register(self._instances)
        self._associations = _labelled(registry, "associations", "Associations ended, by how.", "outcome", get_args(AssociationOutcome))
        self._rejections = _labelled(
            registry, "rejections", "Association requests refused, by reason.", "reason", get_args(RejectionReason)
        )
        self._connections = _labelled(
            registry, "connections", "TCP connections accepted, by what came of them.", "result", get_args(ConnectionResult)
        )
        self._refusals = _labelled(registry, "refusals", "Instances refused, by reason.", "reason", get_args(RefusalReason))
        self._negotiations = _labelled(registry, "negotiation_cache", "Look-ups of a remembered negotiation.", "result", ("hit", "miss"))
        self._nonconformant_uids = Counter(
            "nonconformant_uids", "UIDs stored that do not conform to PS3.5 9.1.", namespace="fastscp", registry=registry
        )
        self.associations_active = Gauge("associations_active", "Associations established now.", namespace="fastscp", registry=registry)
        """Call `inc` when one is established and `dec` when it ends."""
        self._memory_in_use = Gauge("memory_in_use_bytes", "Bytes of instances held in memory now.", namespace="fastscp", registry=registry)
        self._memory_budget = Gauge(
            "memory_budget_bytes", "Most bytes of instances held in memory at a time.", namespace="fastscp", registry=registry
        )
        Info("build", "The version that is running.", namespace="fastscp", registry=registry).info({"version": version})

    def connection(self, result: ConnectionResult) -> None:
        """A TCP connection turned out to be this."""
        self._connections[result].inc()

    def rejected(self, reason: RejectionReason) -> None:
        """An association request was rejected."""
        self._rejections[reason].inc()

    def association_ended(self, outcome: AssociationOutcome) -> None:
        """An association, or a request for one, came to its end."""
        self._associations[outcome].inc()

    def negotiation(self, *, hit: bool) -> None:
        """A proposal was, or was not, among those remembered."""
        self._negotiations["hit" if hit else "miss"].inc()

    def stored(self, dataset_bytes: int, store_s: float) -> None:
        """An instance was committed and answered with 0x0000; committing it took `store_s` seconds."""
        self._instances.add_stored(dataset_bytes, store_s)

    def refused(self, status: int, reason: RefusalReason) -> None:
        """An instance was answered with a failure status."""
        self._instances.add_refused(status)
        self._refusals[reason].inc()

    def nonconformant_uid(self) -> None:
        """A UID was stored that is key-safe and not conformant."""
        self._nonconformant_uids.inc()

    def track_memory(self, in_use_bytes: Callable[[], float], budget_bytes: int) -> None:
        """Ask `in_use_bytes` at each scrape, from the admin server's thread."""
        self._memory_in_use.set_function(in_use_bytes)
        self._memory_budget.set(budget_bytes)
