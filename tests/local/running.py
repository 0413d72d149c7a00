"""The embedded AWS with a receiver beside it, and what the tests ask of the two."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from moto.s3.models import s3_backends

from fastscp.batches.closing import manifest_from_listing
from fastscp.batches.ids import new_batch_id
from fastscp.batches.keys import Keys
from fastscp.batches.manifest import encode_manifest
from fastscp.batches.marker import Marker, encode_marker
from fastscp.batches.objects import Listed
from fastscp.local.embedded import EmbeddedAws
from fastscp.local.objects import ACCOUNT_ID
from fastscp.local.stack import NAMES
from fastscp.local.wiring import aws_environment
from tests.local.support import dicom_file
from tests.peers.datasets import Made, new_uid
from tests.peers.encoding import CT_IMAGE
from tests.peers.server import FastScp, wait_until

IMPORT_WAIT_S = 120.0
Row = dict[str, Any]


def study_file(study: str, series: str, number: int) -> tuple[Made, bytes]:
    sop = new_uid()
    content = dicom_file(StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID=sop, InstanceNumber=str(number))
    return Made(b"", CT_IMAGE, sop, study, series), content


class Local:
    """One embedded AWS.

    Attributes:
        aws: the embedded AWS.
        bucket, keys: where its receiver stores.
        queue_url, dead_letter_url: of the import queue.
    """

    def __init__(self, aws: EmbeddedAws) -> None:
        self.aws = aws
        self.dynamodb = aws.client("dynamodb")
        self.s3 = aws.client("s3")
        self.sqs = aws.client("sqs")
        self.bucket, _, prefix = aws.receiver_environment["FASTSCP_STORE"].removeprefix("s3://").partition("/")
        self.keys = Keys(prefix)
        self.queue_url, self.dead_letter_url = (
            self.sqs.get_queue_url(QueueName=NAMES[f"Storage/{name}"])["QueueUrl"] for name in ("ImportQueue", "ImportDeadLetterQueue")
        )

    @contextmanager
    def receiver(self, *options: str, quiet_s: float = 1.0) -> Iterator[FastScp]:
        """A receiver that stores into this AWS."""
        environment = aws_environment(self.aws.url) | self.aws.receiver_environment
        with FastScp(environment["FASTSCP_STORE"], "--quiet-period", str(quiet_s), *options, environment=environment) as server:
            yield server

    def rows(self, studies: Iterable[str] | None = None) -> list[Row]:
        """The batches of these studies, or all, in the order in which they were closed."""
        wanted = None if studies is None else set(studies)
        reader = TypeDeserializer()
        rows = []
        table = self.aws.resolved.outputs["BatchTableName"]
        for page in self.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
            for item in page["Items"]:
                row = {name: reader.deserialize(value) for name, value in item.items()}
                if "state" in row and (wanted is None or row["studyInstanceUID"] in wanted):
                    rows.append(row)
        return sorted(rows, key=lambda row: str(row["closedAt"]))

    def wait_imported(self, studies: Sequence[str], instances: int, timeout_s: float = IMPORT_WAIT_S, every_s: float = 0.5) -> list[Row]:
        """Wait until batches of these studies with so many instances in all have ended, and none has not."""

        def ended() -> bool:
            # A scan takes moto's time away from the functions.
            time.sleep(every_s)
            rows = self.rows(studies)
            done = [row for row in rows if row["state"] in ("DONE", "FAILED")]
            return len(done) == len(rows) and sum(row["instanceCount"] for row in rows) >= instances

        try:
            wait_until(ended, f"{instances} instances of {len(studies)} studies are imported", timeout_s)
        except AssertionError as error:
            states = [(row["state"], row.get("message")) for row in self.rows(studies)]
            raise AssertionError(f"{error}: {states}\n{self.aws.function_log.read_text()[-5000:]}") from error
        return self.rows(studies)

    def result(self, row: Row) -> dict[str, Any]:
        """The result object that a row names."""
        content: dict[str, Any] = json.loads(self.aws.objects.read(self.aws.resolved.outputs["ResultsBucketName"], row["resultKey"]))
        return content

    def image_sets(self, study: str) -> list[Any]:
        """Those of a study, from within the emulator."""
        return [one for one in self.aws.healthimaging.image_sets(self.aws.datastore_id) if one.study_instance_uid == study]

    def put_batch(self, files: Sequence[tuple[Made, bytes]]) -> str:
        """A closed batch of one study, without marker and event. Returns the batch id."""
        marker, manifest = self._put_instances(files)
        self.aws.objects.write(self.bucket, self.keys.manifest(marker.batch_id), manifest)
        return marker.batch_id

    def put_open_batch(self, files: Sequence[tuple[Made, bytes]]) -> tuple[str, bytes]:
        """An open batch of one study, as a receiver leaves it that is lost. Returns the batch id, and the manifest that would close it."""
        marker, manifest = self._put_instances(files)
        self.aws.objects.write(self.bucket, self.keys.marker(marker.batch_id), encode_marker(marker))
        return marker.batch_id, manifest

    def _put_instances(self, files: Sequence[tuple[Made, bytes]]) -> tuple[Marker, bytes]:
        now_s = time.time()
        batch_id = new_batch_id(os.urandom, now_s)
        at = datetime.fromtimestamp(now_s, UTC)
        marker = Marker(
            batch_id=batch_id,
            owner="test",
            opened_at=at,
            expires_at=at,
            lease_seconds=1,
            put_deadline_seconds=1,
            study_instance_uid=files[0][0].study,
            study_date=None,
            calling_ae_titles=("TEST",),
            called_ae_titles=("FASTSCP",),
            association_ids=(),
        )
        listing = []
        for made, content in files:
            key = self.keys.instance(batch_id, made.study, made.series, made.sop_instance)
            self.aws.objects.write(self.bucket, key, content)
            listing.append(Listed(key, len(content), now_s))
        manifest = manifest_from_listing(marker, listing, self.keys, now_s)
        assert manifest is not None
        return marker, encode_manifest(manifest)

    def created_event(self, key: str) -> dict[str, Any]:
        """What S3 says when this object has been made."""
        s3 = {"bucket": {"name": self.bucket}, "object": {"key": key.replace("/", "%2F"), "size": 1, "sequencer": "1"}}
        return {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}]}

    def send_event(self, key: str) -> None:
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=json.dumps(self.created_event(key)))

    def age_markers(self, seconds: float) -> int:
        """Let the markers of open batches be as old as if nobody had renewed them for so long. Returns how many there are."""
        found = list(self.aws.objects.listing(self.bucket, self.keys.open))
        for stored in found:
            marker = json.loads(self.aws.objects.read(self.bucket, stored.key))
            expires = datetime.fromisoformat(marker["expiresAt"]) - timedelta(seconds=seconds)
            marker["expiresAt"] = expires.isoformat().replace("+00:00", "Z")
            self.aws.objects.write(self.bucket, stored.key, json.dumps(marker).encode())
            kept: Any = s3_backends[ACCOUNT_ID]["aws"].buckets[self.bucket].keys[stored.key]
            kept.last_modified -= timedelta(seconds=seconds)
        return len(found)

    def sweep(self) -> dict[str, Any]:
        """Run the sweeper once."""
        result = self.aws.functions.invoke("sweep_batches", {})
        assert not result.failed, result.payload
        answer: dict[str, Any] = json.loads(result.payload)
        return answer
