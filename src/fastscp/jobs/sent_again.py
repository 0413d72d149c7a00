"""Batches that were not imported in full, and whose instances came again.

Enters: the batches of a study. Leaves: those of which every instance that is not imported was imported from a later batch.
Never: such a batch where manifest or result of either is not there to show it.
"""

from collections.abc import Sequence

from botocore.exceptions import ClientError

from fastscp.batches import Keys
from fastscp.batches.manifest import decode_manifest
from fastscp.errors import CommandError
from fastscp.jobs.aws import Aws, code_of, errors
from fastscp.jobs.results import Place, read_result
from fastscp.jobs.rows import Batch, needs_retry
from fastscp.jobs.tables import Tables


class SentAgain:
    """Reads manifests and results, each once.

    Args:
        at: the receiver's store.
    """

    def __init__(self, aws: Aws, tables: Tables, at: Place) -> None:
        self._aws, self._tables, self._at = aws, tables, at
        self._imported: dict[str, frozenset[str]] = {}

    def batch_ids(self, batches: Sequence[Batch]) -> set[str]:
        """Those of these batches of one study, which are in the order in which they closed."""
        return {
            batch.batch_id for number, batch in enumerate(batches) if needs_retry(batch) and self._came_again(batch, batches[number + 1 :])
        }

    def _came_again(self, batch: Batch, later: Sequence[Batch]) -> bool:
        lacking = self._lacking(batch)
        # From the last one on: that is where what is imported now came from.
        for other in reversed(later):
            if not lacking:
                break
            # Two that closed at the same time say nothing of what came later.
            if other.state == "DONE" and (other.closed_at or "") > (batch.closed_at or ""):
                lacking = lacking and lacking - self._imported_from(other)
        return lacking == set()

    def _imported_from(self, batch: Batch) -> frozenset[str]:
        if batch.batch_id not in self._imported:
            everything, lacking = self._everything(batch), self._lacking(batch)
            known = everything is not None and lacking is not None
            self._imported[batch.batch_id] = frozenset((everything or set()) - (lacking or set())) if known else frozenset()
        return self._imported[batch.batch_id]

    def _lacking(self, batch: Batch) -> set[str] | None:
        """SOP Instance UIDs that are not imported from this batch; None where nobody can say."""
        if not needs_retry(batch):
            return set()
        if batch.state == "FAILED":
            return self._everything(batch)
        job = self._tables.job(batch.job_id) if batch.job_id else None
        result = read_result(self._aws, job) if job else None
        if result is None:
            return None
        return {one.sop_instance_uid for one in result.failed} | {one.sop_instance_uid for one in result.missing}

    def _everything(self, batch: Batch) -> set[str] | None:
        """SOP Instance UIDs of the manifest; None where there is none."""
        keys = Keys(self._at.prefix)
        key = keys.manifest(batch.batch_id)
        with errors(f"s3://{self._at.bucket}/{key}"):
            try:
                data = self._aws.s3.get_object(Bucket=self._at.bucket, Key=key)["Body"].read()
            except ClientError as error:
                if code_of(error) == "NoSuchKey":
                    return None
                raise
        try:
            return {entry.sop_instance_uid for entry in decode_manifest(keys, key, data).instances}
        except ValueError as error:
            if batch.state == "FAILED":
                return None
            raise CommandError(f"s3://{self._at.bucket}/{key} is not the manifest of an import: {error}") from error
