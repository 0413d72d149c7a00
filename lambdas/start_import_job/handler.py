"""AWS Lambda function start_import_job: the state StartImportJob.

Enters: a batch and its attempt. Leaves: what to do next. Never: an error that is swallowed.
"""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from importflow.observe import logger
from importflow.steps import Next
from importflow.workflow import current
from start_import_job.start import start_job


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Next:
    """Returns `next` and `seconds`."""
    return start_job(current(), str(event["batchId"]), int(event["attempt"]))
