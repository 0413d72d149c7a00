"""A hospital's day: studies, their instances, and the batches that a receiver makes of them.

Enters: a number of studies, a seed. Leaves: when each instance is acknowledged, and its batch.
Never: a rule of batches of its own.
"""

import itertools
import math
import random
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.capacity.workflow import ClosedBatch
from fastscp.batches import Arrival, Limits
from fastscp.batches.lease import Lease
from fastscp.batches.manifest import Entry
from fastscp.batches.membership import Batch

DAY_S = 86_400
# Share of the day's studies that are sent in each hour, from midnight on: a quiet night, a morning peak, a second one after lunch.
HOURS = (1, 1, 1, 1, 1, 1, 2, 4, 8, 10, 10, 9, 7, 9, 9, 8, 6, 4, 3, 2, 2, 1, 1, 1)


class Modality(NamedTuple):
    """What one kind of equipment sends.

    Attributes:
        share: of the studies.
        series: bounds of the number of series of a study.
        images: median number of images of a series, and the sigma of their log-normal distribution.
        image_bytes: of one image.
        images_per_s: while a series is sent.
        pause_s: between two series of a study; 0 where all is sent at the end.
    """

    name: str
    share: float
    series: tuple[int, int]
    images: tuple[int, float]
    image_bytes: int
    images_per_s: float
    pause_s: float


MODALITIES = (
    Modality("CR, DX", 0.45, (1, 2), (2, 0.3), 10_000_000, 1, 0),
    Modality("US", 0.15, (1, 1), (40, 0.5), 1_000_000, 5, 0),
    Modality("CT", 0.20, (2, 5), (150, 0.8), 530_000, 20, 0),
    Modality("MR", 0.13, (5, 9), (80, 0.6), 250_000, 10, 180),
    Modality("MG", 0.05, (2, 2), (2, 0.2), 25_000_000, 1, 0),
    Modality("XA", 0.02, (4, 10), (1, 0.0), 40_000_000, 0.2, 120),
)


class Acknowledged(NamedTuple):
    """An instance that was stored, and the batch that it is in, by its place in the list of batches."""

    at_s: float
    batch: int


def _studies(studies: int, source: random.Random) -> Iterator[tuple[Modality, float]]:
    hours = source.choices(range(24), HOURS, k=studies)
    modalities = source.choices(MODALITIES, [one.share for one in MODALITIES], k=studies)
    for hour, modality in zip(hours, modalities, strict=True):
        yield modality, (hour + source.random()) * 3600


def _arrivals(modality: Modality, begins_s: float, source: random.Random) -> Iterator[float]:
    """When the instances of one study are acknowledged."""
    at_s = begins_s
    median, sigma = modality.images
    for number in range(source.randint(*modality.series)):
        if number:
            at_s += modality.pause_s
        for _ in range(max(1, round(median * math.exp(source.gauss(0, sigma))))):
            yield at_s
            at_s += 1 / modality.images_per_s


def day(studies: int, seed: int) -> tuple[list[Acknowledged], list[ClosedBatch]]:
    """A day's instances, in the order of their acknowledgement, and the batches that they came into."""
    source = random.Random(seed)
    instances: list[Acknowledged] = []
    batches: list[ClosedBatch] = []
    for study, (modality, begins_s) in enumerate(_studies(studies, source)):
        open_batch: Batch | None = None
        for number, at_s in enumerate(_arrivals(modality, begins_s, source)):
            arrival = Arrival("1.2", "1.2.1", f"1.2.1.{number}", "", "MODALITY", "FASTSCP", "association")
            if open_batch is not None and open_batch.why_not(arrival, "key", modality.image_bytes, at_s):
                batches.append(_closed(study, open_batch, at_s))
                open_batch = None
            if open_batch is None:
                limits = Limits()
                lease = Lease(limits.lease_s, limits.renew_s, limits.retry_s)
                open_batch = Batch(batch_id="", study_instance_uid="1.2", opened_at_s=at_s, lease=lease, limits=limits)
            open_batch.reserve(arrival, modality.image_bytes, at_s)
            open_batch.commit(Entry(sop_instance_uid=arrival.sop_instance_uid, key="key", size=modality.image_bytes, crc64nvme=None), at_s)
            instances.append(Acknowledged(at_s, len(batches)))
        if open_batch is not None:
            batches.append(_closed(study, open_batch, math.inf))
    return sorted(instances), batches


def _closed(study: int, batch: Batch, until_s: float) -> ClosedBatch:
    """The batch as its worker closes it, which looks at it each tick; at the latest when the next instance wants to come in."""
    limits = batch.limits
    for ticks in itertools.count(math.floor(batch.opened_at_s / limits.tick_s)):
        at_s = ticks * limits.tick_s
        if at_s >= until_s or batch.overdue(at_s):
            break
    sizes = [entry.size or 0 for entry in batch.entries.values()]
    return ClosedBatch(study, min(at_s, until_s), len(sizes), sum(sizes))
