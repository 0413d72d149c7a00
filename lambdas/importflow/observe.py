"""Logs and metrics of the functions, by AWS Lambda Powertools.

Enters: what happened, with batch and association ids. Leaves: JSON on stdout. Never: patient data, or a service's words about an instance.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from importflow.table import Item

MOST_ASSOCIATION_IDS = 10
"""Of a batch in one log record."""

logger = Logger()

__all__ = ["MetricUnit", "about", "logger", "metrics"]


@contextmanager
def metrics() -> Iterator[EphemeralMetrics]:
    """Metrics in CloudWatch's embedded metric format (EMF), written at the end where there are any."""
    own = EphemeralMetrics()
    try:
        yield own
    finally:
        if own.metric_set:
            own.flush_metrics()


def about(row: Item) -> dict[str, Any]:
    """What every record about a batch says of it."""
    return {
        "batchId": row["batchId"],
        "attempt": row.get("attempt"),
        "associationIds": row.get("associationIds", [])[:MOST_ASSOCIATION_IDS],
    }
