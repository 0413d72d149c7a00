"""The manifest and the marker of a batch, see docs/batches.md and docs/manifest.schema.json.

Enters: JSON from under `batches/` and `open/`. Leaves: a manifest or a marker; the manifest that closes a batch, as JSON.
Never: a document that belongs to another key, that names another batch's object, or that has a member that the schema has not.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from importflow.keys import Keys, is_batch_id, is_key_safe
from importflow.times import document_utc, seconds

LARGEST_DOCUMENT_BYTES = 32 << 20
"""Over what 5,000 instances with keys of 1,024 bytes and escaped characters need."""

LARGEST_KEY_BYTES = 1024

_CLOSE_REASONS = frozenset({"age", "bytes", "count", "drain", "lease", "quiet", "repeat", "spilled"})
_study_date = re.compile("[0-9]{8}").fullmatch
_crc64nvme = re.compile("[A-Za-z0-9+/]{11}=").fullmatch
_MARKER = frozenset(
    [
        "version",
        "batchId",
        "owner",
        "openedAt",
        "expiresAt",
        "leaseSeconds",
        "putDeadlineSeconds",
        "studyInstanceUID",
        "studyDate",
        "callingAeTitles",
        "calledAeTitles",
        "associationIds",
    ]
)
_MANIFEST = frozenset(
    [
        "version",
        "batchId",
        "owner",
        "closedBy",
        "closeReason",
        "openedAt",
        "closedAt",
        "studyInstanceUID",
        "studyDate",
        "seriesInstanceUIDs",
        "callingAeTitles",
        "calledAeTitles",
        "associationIds",
        "instanceCount",
        "totalBytes",
        "instances",
    ]
)
_ENTRY = frozenset({"sopInstanceUID", "key", "size", "crc64nvme"})


class Entry(NamedTuple):
    """One instance of a batch. The size is None where it is not known."""

    sop_instance_uid: str
    key: str
    size_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Marker:
    """A batch that is open. Times are in seconds since the epoch."""

    batch_id: str
    owner: str
    opened_at_s: float
    expires_at_s: float
    lease_s: float
    put_deadline_s: float
    study_instance_uid: str
    study_date: str | None
    calling_ae_titles: list[str]
    called_ae_titles: list[str]
    association_ids: list[str]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A batch that is closed. Times are in seconds since the epoch."""

    batch_id: str
    owner: str
    closed_by: str
    close_reason: str
    opened_at_s: float
    closed_at_s: float
    study_instance_uid: str
    study_date: str | None
    series_instance_uids: list[str]
    calling_ae_titles: list[str]
    called_ae_titles: list[str]
    association_ids: list[str]
    total_bytes: int
    instances: list[Entry]


def decode_marker(keys: Keys, key: str, data: bytes) -> Marker:
    """The marker that is kept under this key. Raises ValueError for what no receiver has written there."""
    members = _members(_json(data), _MARKER, "the marker")
    if _text(members, "batchId") != keys.batch_of_marker(key):
        raise ValueError("the marker belongs to another key")
    _require(_is_count(members.get("version", 1)) and members.get("version", 1) == 1, "version")
    lease, deadline = members["leaseSeconds"], members["putDeadlineSeconds"]
    _require(_is_number(lease) and 0 < lease <= 3600, "leaseSeconds")
    _require(_is_number(deadline) and 0 <= deadline <= 3600, "putDeadlineSeconds")
    return Marker(
        batch_id=members["batchId"],
        owner=_owner(members),
        opened_at_s=seconds(_text(members, "openedAt")),
        expires_at_s=seconds(_text(members, "expiresAt")),
        lease_s=float(lease),
        put_deadline_s=float(deadline),
        study_instance_uid=_uid(members, "studyInstanceUID"),
        study_date=_date(members),
        calling_ae_titles=_texts(members, "callingAeTitles"),
        called_ae_titles=_texts(members, "calledAeTitles"),
        association_ids=_texts(members, "associationIds"),
    )


def decode_manifest(keys: Keys, key: str, data: bytes) -> Manifest:
    """The manifest that is kept under this key. Raises ValueError for what neither a receiver nor a sweeper has written there."""
    members = _members(_json(data), _MANIFEST, "the manifest")
    batch_id = _text(members, "batchId")
    if batch_id != keys.batch_of_manifest(key) or not is_batch_id(batch_id):
        raise ValueError("the manifest belongs to another key")
    _require(_is_count(members.get("version", 1)) and members.get("version", 1) == 1, "version")
    _require(members["closedBy"] in ("sweeper", "worker"), "closedBy")
    _require(isinstance(members["closeReason"], str) and members["closeReason"] in _CLOSE_REASONS, "closeReason")
    study = _uid(members, "studyInstanceUID")
    _require(isinstance(members["instances"], list) and members["instances"], "instances")
    entries = [_entry(item) for item in members["instances"]]
    series = set()
    for entry in entries:
        uids = keys.uids(batch_id, entry.key)
        if uids is None or uids[0] != study or uids[2] != entry.sop_instance_uid:
            raise ValueError("the manifest names an object that is not an instance of its batch")
        series.add(uids[1])
    if _texts(members, "seriesInstanceUIDs") != sorted(series):
        raise ValueError("the Series Instance UIDs of the manifest are not those of its instances")
    count, total = members["instanceCount"], members["totalBytes"]
    if not _is_count(count) or count != len(entries) or count != len({entry.key for entry in entries}):
        raise ValueError("the manifest miscounts its instances")
    if not _is_count(total) or total != sum(entry.size_bytes or 0 for entry in entries):
        raise ValueError("the manifest miscounts its bytes")
    return Manifest(
        batch_id=batch_id,
        owner=_owner(members),
        closed_by=members["closedBy"],
        close_reason=members["closeReason"],
        opened_at_s=seconds(_text(members, "openedAt")),
        closed_at_s=seconds(_text(members, "closedAt")),
        study_instance_uid=study,
        study_date=_date(members),
        series_instance_uids=sorted(series),
        calling_ae_titles=_texts(members, "callingAeTitles"),
        called_ae_titles=_texts(members, "calledAeTitles"),
        association_ids=_texts(members, "associationIds"),
        total_bytes=total,
        instances=entries,
    )


def encode_manifest(
    keys: Keys, marker: Marker, entries: Iterable[Entry], *, closed_by: str, close_reason: str, closed_at_s: float
) -> bytes:
    """The manifest of a batch, byte for byte as a receiver would write it. Checksums are null.

    Args:
        entries: at least one, each an instance of the marker's study, in any order.
    """
    instances = sorted(entries, key=lambda entry: entry.key)
    series = {uids[1] for entry in instances if (uids := keys.uids(marker.batch_id, entry.key)) is not None}
    document = {
        "version": 1,
        "batchId": marker.batch_id,
        "owner": marker.owner,
        "closedBy": closed_by,
        "closeReason": close_reason,
        "openedAt": document_utc(marker.opened_at_s),
        "closedAt": document_utc(closed_at_s),
        "studyInstanceUID": marker.study_instance_uid,
        "studyDate": marker.study_date,
        "seriesInstanceUIDs": sorted(series),
        "callingAeTitles": marker.calling_ae_titles,
        "calledAeTitles": marker.called_ae_titles,
        "associationIds": marker.association_ids,
        "instanceCount": len(instances),
        "totalBytes": sum(entry.size_bytes or 0 for entry in instances),
        "instances": [
            {"sopInstanceUID": entry.sop_instance_uid, "key": entry.key, "size": entry.size_bytes, "crc64nvme": None} for entry in instances
        ],
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _members(value: Any, names: frozenset[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() | {"version"} != names | {"version"}:
        raise ValueError(f"{what} has not the members of its schema")
    return value


def _entry(value: Any) -> Entry:
    members = value if isinstance(value, dict) else {}
    _require(members.keys() == _ENTRY, "instances")
    size, crc = members["size"], members["crc64nvme"]
    _require(size is None or _is_count(size), "size")
    _require(crc is None or (isinstance(crc, str) and _crc64nvme(crc) is not None), "crc64nvme")
    key = _text(members, "key")
    _require(len(key) <= LARGEST_KEY_BYTES, "key")
    return Entry(_uid(members, "sopInstanceUID"), key, size)


def _require(holds: object, member: str) -> None:
    if not holds:
        raise ValueError(f"{member} is not what the schema says")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(members: dict[str, Any], member: str) -> str:
    value = members[member]
    _require(isinstance(value, str), member)
    return str(value)


def _texts(members: dict[str, Any], member: str) -> list[str]:
    value = members[member]
    _require(isinstance(value, list) and all(isinstance(item, str) for item in value), member)
    return list(value)


def _owner(members: dict[str, Any]) -> str:
    owner = _text(members, "owner")
    _require(1 <= len(owner) <= 256, "owner")
    return owner


def _uid(members: dict[str, Any], member: str) -> str:
    uid = _text(members, member)
    _require(is_key_safe(uid), member)
    return uid


def _date(members: dict[str, Any]) -> str | None:
    date = members["studyDate"]
    _require(date is None or (isinstance(date, str) and _study_date(date) is not None), "studyDate")
    return date if date is None else str(date)
