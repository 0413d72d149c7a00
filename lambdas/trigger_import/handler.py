"""AWS Lambda function trigger_import: events of S3, and the states TriggerImport and RecordFailure.

Enters: SQS messages, S3 events, or the input of a state. Leaves: failed messages, nothing, or what is next. Never: an error swallowed.
"""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from importflow.accept import accept
from importflow.errors import ImportFlowError, PermanentError
from importflow.observe import MetricUnit, about, logger, metrics
from importflow.workflow import Workflow, current
from trigger_import.claim import take_turn
from trigger_import.events import Created, created, created_in_message
from trigger_import.failure import record
from trigger_import.inbox import adopt


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Returns what its caller takes: the messages that failed for SQS, `next` and `seconds` for the state machine."""
    return dispatch(current(), event, context)


def dispatch(workflow: Workflow, event: dict[str, Any], context: LambdaContext | None = None) -> Any:
    """Tell by its shape who calls."""
    action = event.get("action")
    if action == "claim":
        return take_turn(workflow, str(event["batchId"]), int(event["attempt"]))
    if action == "fail":
        record(workflow, str(event["batchId"]), int(event["attempt"]), event.get("error"))
        return {"next": "END", "seconds": 0}
    if any(message.get("eventSource") == "aws:sqs" for message in event.get("Records", ())):
        # A new one for each call: it remembers what failed.
        processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        return process_partial_response(
            event=event,
            record_handler=lambda record: _message(workflow, record),
            processor=processor,
            context=context,
        )
    _all(workflow, list(created(event)))
    return None


def _message(workflow: Workflow, message: SQSRecord) -> None:
    try:
        _all(workflow, created_in_message(message.body))
    except PermanentError as error:
        # It is tried again as any other, and ends in the dead-letter queue, where a person finds it.
        logger.error("refused", extra={"messageId": message.message_id, "reason": str(error)})
        with metrics() as measured:
            measured.add_metric("EventsRefused", MetricUnit.Count, 1)
        raise
    except ImportFlowError as error:
        logger.warning(
            "will be tried again", extra={"messageId": message.message_id, "errorClass": type(error).__name__, "reason": str(error)}
        )
        raise
    except Exception:
        # The batch processor keeps what it catches to itself.
        logger.exception("error in the function", extra={"messageId": message.message_id})
        raise


def _all(workflow: Workflow, objects: list[Created]) -> None:
    """Every object is taken, also after one that failed; then the first failure is raised."""
    failures: list[ImportFlowError] = []
    for one in objects:
        try:
            _take(workflow, one)
        except ImportFlowError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _take(workflow: Workflow, one: Created) -> None:
    if one.bucket != workflow.settings.dicom_bucket:
        raise PermanentError("an object of another bucket")
    if workflow.keys.is_inbox(one.key):
        batch_id = adopt(workflow, one.key, one.version)
        if batch_id is None:
            raise PermanentError("a file of the inbox is not there any more")
    else:
        batch_id = workflow.keys.batch_of_manifest(one.key)
        if batch_id is None:
            raise PermanentError("neither a manifest nor a file of the inbox")
    row = accept(workflow, batch_id)
    logger.info("event taken", extra=about(row) | {"state": row["state"]})
