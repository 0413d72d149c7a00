"""The counters and gauges of one process.

Enters: one call for each thing that happened. Leaves: the Prometheus text format.
Never: global state, a label value that a peer chose, calling AE titles aside.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from fastscp._ext.tally import Sender, StoredTally
from fastscp.errors import RefusalReason
from fastscp.observe.tally import InstanceTally

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


def _labelled(registry: CollectorRegistry, name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
    """A counter's children by label value, all there from the start, so that a rate over the first event is not lost."""
    counter = Counter(name, text, [label], namespace="fastscp", registry=registry)
    return {value: counter.labels(value) for value in values}


class _Asked(Collector):
    """A counter that somebody else keeps."""

    def __init__(self, name: str, text: str, value: Callable[[], float]) -> None:
        self._name, self._text, self._value = name, text, value

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._text, value=self._value())


class Metrics:
    """All metrics of one process, in a registry of its own. Thread-safe."""

    def __init__(self, version: str) -> None:
        registry = self.registry = CollectorRegistry()
        self._instances = InstanceTally()
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
        self._open_batches = Gauge("open_batches", "Batches that are not closed yet.", namespace="fastscp", registry=registry)
        self._oldest_batch_age = Gauge(
            "oldest_batch_age_seconds", "Time since the oldest of them was opened.", namespace="fastscp", registry=registry
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

    def sender(self, calling_ae_title: str) -> Sender:
        """Where to count what this AE title sends; see `stored`."""
        return self._instances.sender(calling_ae_title)

    @property
    def stored_tally(self) -> StoredTally:
        """Where `stored` counts, for native code that does the same."""
        return self._instances.stored

    def stored(self, sender: Sender, dataset_bytes: int, store_s: float) -> None:
        """An instance was committed and answered with 0x0000; committing it took `store_s` seconds."""
        self._instances.stored.add(sender, dataset_bytes, store_s)

    def refused(self, status: int, reason: RefusalReason, answer_s: float) -> None:
        """An instance was answered with a failure status, `answer_s` seconds after it was complete."""
        self._instances.add_refused(status, answer_s)
        self._refusals[reason].inc()

    def nonconformant_uid(self) -> None:
        """A UID was stored that is key-safe and not conformant."""
        self._nonconformant_uids.inc()

    def track_memory(self, in_use_bytes: Callable[[], float], budget_bytes: int) -> None:
        """Ask `in_use_bytes` at each scrape, from the admin server's thread."""
        self._memory_in_use.set_function(in_use_bytes)
        self._memory_budget.set(budget_bytes)

    def track_batches(self, open_count: Callable[[], float], oldest_age_s: Callable[[], float], retry_count: Callable[[], float]) -> None:
        """Ask these at each scrape, from another thread."""
        self._open_batches.set_function(open_count)
        self._oldest_batch_age.set_function(oldest_age_s)
        self.registry.register(_Asked("fastscp_store_retries", "Requests to S3 that were made again after a failure.", retry_count))
