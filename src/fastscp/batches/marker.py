"""The marker of an open batch, which is its lease too: `open/<batch id>.json`.

Enters: what a worker knows of its batch. Leaves: JSON, and a marker again out of JSON that is one.
Never: patient data, a marker that belongs to another key.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fastscp.batches.ids import PATTERN
from fastscp.batches.keys import Keys
from fastscp.uids import is_key_safe

BatchId = Annotated[
    str, Meta(pattern=PATTERN, max_length=29, description="16 digits of entropy, a dash, 12 of milliseconds since the epoch.")
]
Uid = Annotated[str, Meta(pattern="^[0-9]([0-9.]{0,62}[0-9])?$", max_length=64, description="A UID that is key-safe.")]
StudyDate = Annotated[str, Meta(pattern="^[0-9]{8}$", max_length=8, description="YYYYMMDD (PS3.5 DA).")]
Utc = Annotated[datetime, Meta(tz=True)]


def member_name(field: str) -> str:
    """Name of a field in JSON: camel case, with UID as DICOM writes it."""
    first, *rest = field.split("_")
    return (first + "".join(word.capitalize() for word in rest)).replace("Uid", "UID")


class Marker(msgspec.Struct, frozen=True, kw_only=True, rename=member_name, forbid_unknown_fields=True):
    """What is known of a batch that is open, and until when its owner may commit into it."""

    version: Literal[1] = 1
    batch_id: BatchId
    owner: Annotated[str, Meta(min_length=1, max_length=256)]
    opened_at: Utc
    expires_at: Utc
    lease_seconds: Annotated[float, Meta(gt=0, le=3600)]
    put_deadline_seconds: Annotated[float, Meta(ge=0, le=3600)]
    study_instance_uid: Uid
    study_date: StudyDate | None
    calling_ae_titles: tuple[str, ...]
    called_ae_titles: tuple[str, ...]
    association_ids: tuple[str, ...]


def encode_marker(marker: Marker) -> bytes:
    """The marker as JSON: the same bytes for the same marker."""
    return msgspec.json.encode(marker)


def decode_marker(keys: Keys, key: str, data: bytes) -> Marker:
    """The marker that is kept under this key. Raises ValueError for what no receiver has written there."""
    marker = msgspec.json.decode(data, type=Marker)
    if marker.batch_id != keys.batch_of_marker(key):
        raise ValueError("the marker belongs to another key")
    if not is_key_safe(marker.study_instance_uid):
        raise ValueError("the Study Instance UID of the marker makes no key")
    return marker
