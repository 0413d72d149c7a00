"""Throttles and quotas of the service.

Enters: times. Leaves: whether a call is let through. Never: a wait.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple


class Rate(NamedTuple):
    """Calls per second, and how many at once."""

    per_second: float
    burst: float


_READ, _LIST = Rate(25, 50), Rate(10, 20)
RATES: Mapping[str, Rate] = MappingProxyType(
    {
        "StartDICOMImportJob": Rate(1, 2),
        "GetDICOMImportJob": _READ,
        "ListDICOMImportJobs": _LIST,
        "SearchImageSets": _READ,
        "GetImageSet": _READ,
        "ListImageSetVersions": _READ,
        "GetImageSetMetadata": Rate(50, 100),
        "CreateDatastore": Rate(0.085, 1),
    }
)
"""Per account and Region: https://docs.aws.amazon.com/healthimaging/latest/devguide/throttling-limits.html. GetDatastore and
ListDatastores have rates there too, which nothing here depends on: they are not throttled."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the service allows, and how long it takes.

    Attributes:
        rates: by operation; what is absent is not throttled.
        concurrent_jobs, job_files, job_bytes, file_bytes: quotas of
            https://docs.aws.amazon.com/healthimaging/latest/devguide/endpoints-quotas.html.
        token_memory_s: how long a clientToken is remembered. The service does not say.
        submitted_s: how long a job stays SUBMITTED.
        in_progress_s: how long it is IN_PROGRESS at least, however few its files.
        file_s: what each file adds to that.
    """

    rates: Mapping[str, Rate] = field(default_factory=lambda: RATES)
    concurrent_jobs: int = 100
    job_files: int = 5_000
    job_bytes: int = 10_000_000_000
    file_bytes: int = 10_000_000_000
    token_memory_s: float = 3600.0
    submitted_s: float = 1.0
    in_progress_s: float = 2.0
    file_s: float = 0.002


class Throttle:
    """One token bucket for each operation. Not thread-safe."""

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        self._rates = rates
        self._buckets: dict[str, tuple[float, float]] = {}

    def admits(self, operation: str, now_s: float) -> bool:
        """Whether a call is let through now; it then counts."""
        rate = self._rates.get(operation)
        if rate is None:
            return True
        tokens, filled_at_s = self._buckets.get(operation, (rate.burst, now_s))
        tokens = min(rate.burst, tokens + (now_s - filled_at_s) * rate.per_second)
        admitted = tokens >= 1
        self._buckets[operation] = (tokens - 1 if admitted else tokens, now_s)
        return admitted
