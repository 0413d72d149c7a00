"""Batches and import jobs as DynamoDB and the results bucket know them: what `fastscp jobs` shows, and the start of another attempt.

Enters: names of tables, ids of batches, jobs and studies. Leaves: rows, results, a verdict on a study.
Never: a write, except for the attempt that a person asks for.
"""

from fastscp.jobs.aws import Aws
from fastscp.jobs.following import Following
from fastscp.jobs.results import Result, read_result
from fastscp.jobs.retrying import Retried, retry
from fastscp.jobs.rows import STATES, Batch, Job, State, needs_retry, utc
from fastscp.jobs.study import StudyAnswer, Verdict, ask_study
from fastscp.jobs.tables import Tables

__all__ = [
    "Aws",
    "Tables",
    "Batch",
    "Job",
    "State",
    "STATES",
    "needs_retry",
    "utc",
    "Following",
    "Result",
    "read_result",
    "Retried",
    "retry",
    "StudyAnswer",
    "Verdict",
    "ask_study",
]
