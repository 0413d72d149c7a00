"""The settings of the functions, from their environment.

Enters: environment variables. Leaves: one frozen object. Never: a default for what differs from one deployment to the next.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """See docs/workflow.md. Prefixes are empty, or end in a slash."""

    dicom_bucket: str
    dicom_prefix: str
    results_bucket: str
    results_prefix: str
    batch_table: str
    job_table: str
    datastore_id: str
    data_access_role_arn: str
    state_machine_arn: str
    starts_per_second: float
    concurrent_jobs: int
    poll_min_s: int
    poll_max_s: int
    stuck_after_s: float


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings. Raises KeyError for one that is absent, ValueError for one that is no number or out of range."""
    settings = Settings(
        dicom_bucket=environment["DICOM_BUCKET"],
        dicom_prefix=_prefix(environment.get("DICOM_PREFIX", "")),
        results_bucket=environment["RESULTS_BUCKET"],
        results_prefix=_prefix(environment.get("RESULTS_PREFIX", "")),
        batch_table=environment["BATCH_TABLE"],
        job_table=environment["JOB_TABLE"],
        datastore_id=environment["DATASTORE_ID"],
        data_access_role_arn=environment["DATA_ACCESS_ROLE_ARN"],
        state_machine_arn=environment["STATE_MACHINE_ARN"],
        starts_per_second=float(environment.get("STARTS_PER_SECOND", "1")),
        concurrent_jobs=int(environment.get("CONCURRENT_JOBS", "100")),
        poll_min_s=int(environment.get("POLL_MIN_SECONDS", "10")),
        poll_max_s=int(environment.get("POLL_MAX_SECONDS", "60")),
        stuck_after_s=float(environment.get("STUCK_AFTER_SECONDS", "300")),
    )
    if not settings.starts_per_second > 0:
        raise ValueError("STARTS_PER_SECOND is not over 0")
    if settings.concurrent_jobs < 1:
        raise ValueError("CONCURRENT_JOBS is under 1")
    if not 0 <= settings.poll_min_s <= settings.poll_max_s:
        raise ValueError("POLL_MIN_SECONDS and POLL_MAX_SECONDS are no range")
    return settings


def _prefix(text: str) -> str:
    stripped = text.strip("/")
    return f"{stripped}/" if stripped else ""
