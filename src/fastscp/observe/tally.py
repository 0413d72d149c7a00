"""What is counted for every instance.

Enters: one call for each answer. Leaves: counters and histograms when somebody collects. Never: more senders than a fixed number.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fastscp._ext.tally import Sender, StoredTally

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

MOST_SENDERS = 100
"""Calling AE titles that are counted on their own. A title is what a peer says it is: without a limit anybody could fill the memory."""

OTHER_SENDERS = "(other)"
"""Label of all further ones. Longer than an AE title can be without its parentheses, and with characters that are rare in one."""


class InstanceTally(Collector):
    """Counters behind two locks, one of them native: prometheus_client's own cost five times as much. Thread-safe."""

    def __init__(self) -> None:
        self.stored = StoredTally(BUCKETS_S)
        """Instances that were committed and answered with Success."""
        self._lock = threading.Lock()
        self._senders: dict[str, Sender] = {}
        self._by_status: dict[int, int] = {}
        self._refused_in = [0] * (len(BUCKETS_S) + 1)
        self._refused_s = 0.0

    def sender(self, calling_ae_title: str) -> Sender:
        """Where to count what this AE title sends."""
        label = calling_ae_title if calling_ae_title.isascii() and calling_ae_title.isprintable() else OTHER_SENDERS
        with self._lock:
            if label not in self._senders and len(self._senders) >= MOST_SENDERS:
                label = OTHER_SENDERS
            return self._senders.setdefault(label, Sender())

    def add_refused(self, status: int, answer_s: float) -> None:
        """An instance was answered with a failure, `answer_s` seconds after it was complete."""
        with self._lock:
            self._by_status[status] = self._by_status.get(status, 0) + 1
            self._refused_in[bisect_left(BUCKETS_S, answer_s)] += 1
            self._refused_s += answer_s

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        stored_in, stored_bytes, stored_s = self.stored.snapshot()
        with self._lock:
            by_status = {0x0000: sum(stored_in), **self._by_status}
            answered_in = [stored + refused for stored, refused in zip(stored_in, self._refused_in, strict=True)]
            answered_s = stored_s + self._refused_s
            senders = [(label, sender.instance_count, sender.dataset_bytes) for label, sender in sorted(self._senders.items())]
        instances = CounterMetricFamily("fastscp_instances", "C-STORE requests answered, by status (four hex digits).", labels=["status"])
        for status, count in sorted(by_status.items()):
            instances.add_metric([f"{status:04X}"], count)
        yield instances
        yield CounterMetricFamily("fastscp_instance_bytes", "Data set bytes of the instances stored.", value=stored_bytes)
        sent = CounterMetricFamily("fastscp_sender_instances", "Instances stored, by calling AE title.", labels=["calling_aet"])
        sent_bytes = CounterMetricFamily("fastscp_sender_bytes", "Data set bytes of the instances stored.", labels=["calling_aet"])
        for label, count, dataset_bytes in senders:
            sent.add_metric([label], count)
            sent_bytes.add_metric([label], dataset_bytes)
        yield sent
        yield sent_bytes
        yield _histogram("fastscp_store_seconds", "Time from a complete instance to its commit.", stored_in, stored_s)
        yield _histogram("fastscp_answer_seconds", "Time from a complete instance to its answer.", answered_in, answered_s)


def _histogram(name: str, text: str, counts: list[int], sum_s: float) -> HistogramMetricFamily:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, total))
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets, sum_s)
    return family
