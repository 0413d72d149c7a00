"""AWS Lambda function sweep_batches, called by a schedule.

Enters: nothing. Leaves: metrics, and each thing that was left behind a step further. Never: one thing that fails and holds up the others.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from importflow import turns
from importflow.observe import MetricUnit, logger, metrics
from importflow.workflow import Workflow, current
from sweep_batches.markers import sweep_markers
from sweep_batches.stuck import sweep_rows

LEAST_LEFT_S = 60.0
"""With less time than this nothing new is begun: the longest thing is to close a batch, by a listing of 5,000 instances."""


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns the counts that the metrics have."""
    return sweep(current(), lambda: context.get_remaining_time_in_millis() > LEAST_LEFT_S * 1000)


def sweep(workflow: Workflow, has_time: Callable[[], bool]) -> dict[str, Any]:
    """One sweep."""
    markers = sweep_markers(workflow, has_time)
    rows = sweep_rows(workflow, has_time)
    released = turns.release_ended_places(workflow)
    oldest = min([*markers.opened_at_s, *rows.opened_at_s], default=None)
    found = {
        "BatchesClosedBySweeper": markers.closed,
        "MarkersRefused": markers.refused,
        "BatchesResumed": rows.resumed + markers.started,
        "BatchesNotSwept": markers.failed + rows.failed,
        "BatchesWaiting": rows.live,
        "JobsRunningLong": rows.long_running,
        "PlacesReleased": len(released),
    }
    age_s = 0.0 if oldest is None else max(0.0, workflow.now() - oldest)
    with metrics() as measured:
        measured.add_metric("OldestNotImportedAge", MetricUnit.Seconds, age_s)
        for name, count in found.items():
            measured.add_metric(name, MetricUnit.Count, count)
    logger.info("swept", extra=found | {"oldestNotImportedAgeSeconds": round(age_s, 3), "markersDeleted": markers.deleted})
    return found | {"OldestNotImportedAge": age_s}
