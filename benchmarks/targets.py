"""What fastscp must reach and aims for, as ratios to other receivers in the same round.

Enters: samples by work, receiver and round. Leaves: a verdict for each target. Never: a ratio across rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from benchmarks.works import Sample

Quantity = Literal["rate", "cpu", "cores", "rss_each", "rss_growth", "acknowledgement"]
Samples = Mapping[str, Mapping[str, Sequence[Sample]]]
"""By work, then by receiver, one per round."""


@dataclass(frozen=True)
class Spread:
    """A median and the range around it."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError where there are none."""
        if not values:
            raise ValueError("no values")
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Target:
    """`reference` None makes `must` a plain figure in the unit of the quantity: cores, bytes per association, bytes, ms."""

    work: str
    quantity: Quantity
    contender: str
    reference: str | None
    must: float
    aim: float | None = None

    @property
    def more_is_better(self) -> bool:
        """Rates are to be reached, costs not to be exceeded."""
        return self.quantity == "rate"

    def met_by(self, value: float, bound: float) -> bool:
        """Whether `value` is on the right side of `bound`."""
        return value >= bound if self.more_is_better else value <= bound


MB = 1_000_000
TARGETS = (
    Target("ct-null-1", "rate", "fastscp-null", "floor-null", must=0.8, aim=1.0),
    Target("ct-null-1", "cpu", "fastscp-null", "floor-null", must=1.8, aim=1.3),
    Target("ct-null-8", "rate", "fastscp-null", "floor-null", must=1.0, aim=1.2),
    Target("ct-null-8", "rate", "fastscp-null", "pynetdicom-file", must=60),
    Target("ct-file-1", "rate", "fastscp-file", "floor-file", must=0.85, aim=1.0),
    Target("ct-file-1", "rate", "fastscp-file", "dcmtk", must=1.0, aim=1.3),
    Target("ct-file-8", "rate", "fastscp-file", "floor-file", must=0.85, aim=1.0),
    Target("ct-file-8", "rate", "fastscp-file", "dcmtk-fork", must=0.9, aim=1.3),
    Target("small-file-1", "rate", "fastscp-file", "dcmtk", must=1.2, aim=2.0),
    Target("small-file-1", "rate", "fastscp-file", "pynetdicom-file", must=15),
    Target("small-null-8", "rate", "fastscp-null", "pynetdicom-file", must=60),
    Target("big-file-1", "rate", "fastscp-file", "dcmtk", must=1.0),
    Target("big-file-1", "rss_growth", "fastscp-file", None, must=32 * MB),
    Target("associations-1", "rate", "fastscp-file", "dcmtk", must=0.25, aim=1.0),
    Target("associations-1", "rate", "fastscp-file", "pynetdicom-file", must=40),
    Target("associations-120", "rate", "fastscp-file", "dcmtk", must=0.4, aim=1.0),
    Target("associations-120", "rate", "fastscp-file", "pynetdicom-file", must=40),
    Target("idle-500", "cores", "fastscp-file", None, must=0.01),
    Target("idle-500", "rss_each", "fastscp-file", None, must=150_000),
    Target("storescu-1", "rate", "fastscp-file", "dcmtk-pair-nodelay", must=0.7),
    Target("storescu-1", "rate", "fastscp-file", "dcmtk-pair", must=30),
    Target("storescu-4", "rate", "fastscp-file", "dcmtk-pair-nodelay", must=0.9),
    Target("storescu-4", "rate", "fastscp-file", "dcmtk-pair", must=15),
    Target("ct-s3-32", "rate", "fastscp-obstore", "pynetdicom-boto3", must=10),
    Target("ct-s3-32", "cpu", "fastscp-obstore", "pynetdicom-boto3", must=1 / 15),
    Target("ct-s3-32", "cpu", "fastscp-obstore", None, must=0.8, aim=0.55),
    *(Target(f"ct-s3-{associations}", "acknowledgement", "fastscp-obstore", None, must=1.2) for associations in (1, 8, 32)),
)


def value_of(sample: Sample, quantity: Quantity) -> float:
    """The quantity in its unit. Raises ValueError where this work does not measure it."""
    values = {
        "rate": sample.rate_per_s,
        "cpu": sample.cpu_ms,
        "cores": sample.cores_busy,
        "rss_each": sample.rss_each_bytes,
        "rss_growth": float(sample.rss_growth_bytes),
        "acknowledgement": sample.acknowledgement_ratio,
    }
    value = values[quantity]
    if value is None:
        raise ValueError(f"{quantity} is not measured here")
    return value


def ratios(samples: Samples, work: str, quantity: Quantity, contender: str, reference: str) -> list[float]:
    """One ratio per round, of the two receivers' samples in that round. Raises ValueError where the rounds do not match."""
    ours, theirs = samples[work][contender], samples[work][reference]
    if len(ours) != len(theirs):
        raise ValueError(f"{work}: {contender} and {reference} were not measured in the same rounds")
    return [value_of(a, quantity) / value_of(b, quantity) for a, b in zip(ours, theirs, strict=True)]


@dataclass(frozen=True)
class Verdict:
    """`spread` is None where a receiver of the target was not measured."""

    target: Target
    spread: Spread | None

    @property
    def verdict(self) -> str:
        """One of: not measured, falls short, pass, pass and aim."""
        if self.spread is None:
            return "not measured"
        if not self.target.met_by(self.spread.median, self.target.must):
            return "falls short"
        aim = self.target.aim
        return "pass and aim" if aim is not None and self.target.met_by(self.spread.median, aim) else "pass"


def verdicts(samples: Samples) -> list[Verdict]:
    """One for each target, in their order."""
    found = []
    for target in TARGETS:
        measured = samples.get(target.work, {})
        if target.contender not in measured or (target.reference is not None and target.reference not in measured):
            found.append(Verdict(target, None))
        elif target.reference is None:
            found.append(Verdict(target, Spread.of([value_of(sample, target.quantity) for sample in measured[target.contender]])))
        else:
            found.append(Verdict(target, Spread.of(ratios(samples, target.work, target.quantity, target.contender, target.reference))))
    return found
