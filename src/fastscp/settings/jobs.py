"""The options of `fastscp jobs`: name, kind, default and help of each.

Enters: nothing. Leaves: the class JobsSettings and JOBS_OPTIONS made from it.
Never: an option of the receiver under another meaning.
"""

from typing import Annotated

import msgspec

from fastscp.settings import kinds
from fastscp.settings.kinds import StoreTarget
from fastscp.settings.table import Declared, options_of

WORKFLOW = "Import workflow"

_D = Declared


class JobsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where `fastscp jobs` finds what it shows."""

    batch_table: Annotated[str, _D("batch_table", WORKFLOW, kinds.TABLE, "DynamoDB table of the batches.")] = "DicomImportBatchTable"
    job_table: Annotated[str, _D("job_table", WORKFLOW, kinds.TABLE, "DynamoDB table of the import jobs.")] = "DicomImportJobTable"
    state_machine: Annotated[
        str,
        _D("state_machine", WORKFLOW, kinds.WORD, "ARN of the state machine that retry starts.", "that of the batch's last execution"),
    ] = ""
    store: Annotated[
        StoreTarget | None,
        _D(
            "store",
            WORKFLOW,
            kinds.STORE,
            "The receiver's store, s3://bucket/prefix: there --study finds what is still being received.",
            "that of the study's last job",
        ),
    ] = None
    aws_region: Annotated[
        str, _D("aws_region", WORKFLOW, kinds.WORD, "Region of tables and buckets.", "AWS_DEFAULT_REGION or the profile's")
    ] = ""


JOBS_OPTIONS = options_of(JobsSettings)
"""All options by name, in the order of the help."""
