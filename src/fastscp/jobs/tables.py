"""What is read from the two tables.

Enters: ids, states, a study. Leaves: rows; where there may be many, page by page as they are asked for.
Never: a write, a scan of a table.
"""

import heapq
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Key

from fastscp.errors import CommandError, ConfigError
from fastscp.jobs.aws import Aws, errors
from fastscp.jobs.rows import CONTROL, STATES, Batch, Job, State, row
from fastscp.settings import JobsSettings

if TYPE_CHECKING:
    from types_boto3_dynamodb.service_resource import Table
else:
    Table = Any

_KEYS_PER_REQUEST = 100
"""Of BatchGetItem."""
_ROUNDS = 8
"""How often BatchGetItem is asked again for keys that it left unprocessed."""


class Tables:
    """The table of batches and the table of jobs. Errors of AWS are raised as ConfigError or CommandError."""

    def __init__(self, aws: Aws, settings: JobsSettings) -> None:
        self._dynamodb = aws.dynamodb
        self.batches: Table = aws.dynamodb.Table(settings.batch_table)
        self.jobs: Table = aws.dynamodb.Table(settings.job_table)
        self._absent = {
            self.batches.name: ConfigError("--batch-table", f"there is no table {settings.batch_table!r}"),
            self.jobs.name: ConfigError("--job-table", f"there is no table {settings.job_table!r}"),
        }

    def newest(self, states: Iterable[State] = STATES, since: str | None = None) -> Iterator[Batch]:
        """Batches in these states, last updated first.

        Args:
            since: leaves out those last updated before.
        """
        queries = [self._in_state(state, since) for state in states]
        return heapq.merge(*queries, key=lambda batch: (batch.updated_at, batch.batch_id), reverse=True)

    def _in_state(self, state: State, since: str | None) -> Iterator[Batch]:
        key = Key("state").eq(state)
        condition = key if since is None else key & Key("updatedAt").gte(since)
        items = self._query(self.batches, IndexName="byState", KeyConditionExpression=condition, ScanIndexForward=False)
        # The order among those of one moment is DynamoDB's own, and merging needs ours.
        same: list[Batch] = []
        for item in items:
            batch = row(Batch, item)
            if same and batch.updated_at != same[0].updated_at:
                yield from sorted(same, key=lambda one: one.batch_id, reverse=True)
                same.clear()
            same.append(batch)
        yield from sorted(same, key=lambda one: one.batch_id, reverse=True)

    def of_study(self, study_instance_uid: str) -> list[Batch]:
        """All batches of a study, in the order in which they closed."""
        condition = Key("studyInstanceUID").eq(study_instance_uid)
        return [row(Batch, item) for item in self._query(self.batches, IndexName="byStudy", KeyConditionExpression=condition)]

    def jobs_of(self, batch_id: str) -> list[Job]:
        """All jobs of a batch, in the order in which they were submitted."""
        condition = Key("batchId").eq(batch_id)
        return [row(Job, item) for item in self._query(self.jobs, IndexName="byBatch", KeyConditionExpression=condition)]

    def batch(self, batch_id: str) -> Batch | None:
        """The batch as it is now."""
        if batch_id.startswith(CONTROL):
            return None
        with errors(f"table {self.batches.name}", self._absent[self.batches.name]):
            item = self.batches.get_item(Key={"batchId": batch_id}, ConsistentRead=True).get("Item")
        return row(Batch, item) if item else None

    def job(self, job_id: str) -> Job | None:
        """The job as it is now."""
        with errors(f"table {self.jobs.name}", self._absent[self.jobs.name]):
            item = self.jobs.get_item(Key={"jobId": job_id}, ConsistentRead=True).get("Item")
        return row(Job, item) if item else None

    def jobs_by_id(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """Those of these jobs that there are."""
        return {item["jobId"]: row(Job, item) for item in self._get_many(self.jobs, "jobId", job_ids)}

    def batches_by_id(self, batch_ids: Iterable[str]) -> dict[str, Batch]:
        """Those of these batches that there are."""
        return {item["batchId"]: row(Batch, item) for item in self._get_many(self.batches, "batchId", batch_ids)}

    def _query(self, table: Table, **query: Any) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {}
        while True:
            with errors(f"table {table.name}", self._absent[table.name]):
                answer = table.query(**query, **page)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _get_many(self, table: Table, key: str, values: Iterable[str]) -> Iterator[dict[str, Any]]:
        waiting: list[dict[str, Any]] = [{key: value} for value in dict.fromkeys(values)]
        rounds = 0
        while waiting:
            asked, waiting = waiting[:_KEYS_PER_REQUEST], waiting[_KEYS_PER_REQUEST:]
            with errors(f"table {table.name}", self._absent[table.name]):
                answer = self._dynamodb.batch_get_item(RequestItems={table.name: {"Keys": asked, "ConsistentRead": True}})
            yield from answer["Responses"].get(table.name, [])
            unprocessed = answer.get("UnprocessedKeys", {})
            left = [dict(keys) for keys in unprocessed[table.name]["Keys"]] if table.name in unprocessed else []
            if left:
                if rounds == _ROUNDS:
                    raise CommandError(f"table {table.name}: DynamoDB does not keep up; try again")
                time.sleep(0.05 * 2**rounds)
                rounds += 1
                waiting += left
