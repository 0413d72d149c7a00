"""The manifest of a closed batch, which starts its import: `batches/<batch id>.json`, schema in docs/manifest.schema.json.

Enters: what is in a batch. Leaves: JSON, and a manifest again out of JSON that is one.
Never: patient data, a manifest that belongs to another key, an instance that is not under the batch's own prefix.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fastscp.batches.keys import Keys
from fastscp.batches.marker import BatchId, StudyDate, Uid, Utc, member_name

CloseReason = Literal["quiet", "count", "bytes", "age", "spilled", "repeat", "drain", "lease"]
"""Why a batch closed: see docs/batches.md. `lease` is the sweeper's."""

Count = Annotated[int, Meta(ge=0)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename=member_name, forbid_unknown_fields=True):
    """One instance of a batch. Size and checksum are null where nobody knows which of two contents the object has."""

    sop_instance_uid: Uid
    key: Annotated[str, Meta(max_length=1024, description="The whole key in the bucket.")]
    size: Annotated[Count | None, Meta(description="Bytes of the object.")]
    crc64nvme: Annotated[
        Annotated[str, Meta(pattern="^[A-Za-z0-9+/]{11}=$", max_length=12)] | None,
        Meta(description="CRC64NVME of the object in base64, as S3 states it; null as well where the sweeper wrote the manifest."),
    ]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename=member_name, forbid_unknown_fields=True):
    """A batch that is closed. `instances` is in the order of the keys, every other list is sorted."""

    version: Literal[1] = 1
    batch_id: BatchId
    owner: Annotated[str, Meta(min_length=1, max_length=256, description="The worker that received the batch.")]
    closed_by: Literal["worker", "sweeper"]
    close_reason: CloseReason
    opened_at: Utc
    closed_at: Utc
    study_instance_uid: Uid
    study_date: StudyDate | None
    series_instance_uids: tuple[Uid, ...]
    calling_ae_titles: tuple[str, ...]
    called_ae_titles: tuple[str, ...]
    association_ids: tuple[str, ...]
    instance_count: Annotated[int, Meta(ge=1)]
    total_bytes: Annotated[Count, Meta(description="Sum of the sizes that are known.")]
    instances: Annotated[tuple[Entry, ...], Meta(min_length=1)]


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON: the same bytes for the same manifest."""
    return msgspec.json.encode(manifest)


def decode_manifest(keys: Keys, key: str, data: bytes) -> Manifest:
    """The manifest that is kept under this key. Raises ValueError for what neither a receiver nor a sweeper has written there."""
    manifest = msgspec.json.decode(data, type=Manifest)
    if manifest.batch_id != keys.batch_of_manifest(key):
        raise ValueError("the manifest belongs to another key")
    series = set()
    for entry in manifest.instances:
        uids = keys.uids(manifest.batch_id, entry.key)
        if uids is None or uids[0] != manifest.study_instance_uid or uids[2] != entry.sop_instance_uid:
            raise ValueError("the manifest names an object that is not an instance of its batch")
        series.add(uids[1])
    if tuple(sorted(series)) != manifest.series_instance_uids:
        raise ValueError("the Series Instance UIDs of the manifest are not those of its instances")
    if len({entry.key for entry in manifest.instances}) != manifest.instance_count or len(manifest.instances) != manifest.instance_count:
        raise ValueError("the manifest miscounts its instances")
    if manifest.total_bytes != total_bytes(manifest.instances):
        raise ValueError("the manifest miscounts its bytes")
    return manifest


def total_bytes(instances: tuple[Entry, ...]) -> int:
    """Sum of the sizes that are known."""
    return sum(entry.size for entry in instances if entry.size is not None)


def manifest_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the manifest."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fastscp batch manifest", **msgspec.json.schema(Manifest)}
