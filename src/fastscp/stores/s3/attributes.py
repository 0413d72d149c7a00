"""What an object says of itself beside its bytes.

Enters: what is known of the association. Leaves: header values. Never: patient data, a character that a header cannot carry.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote


class ObjectAttributes(NamedTuple):
    """Content-Type, and user metadata (`x-amz-meta-...`): names in lower case, values that are ASCII without spaces."""

    content_type: str
    metadata: Mapping[str, str]


def instance_attributes(called_ae_title: str, calling_ae_title: str, received_at: datetime, association_id: str) -> ObjectAttributes:
    """Attributes of a DICOM instance (PS3.10 section 7, media type of RFC 3240).

    AE titles and association id are percent-encoded as UTF-8, spaces included (a header loses those at its ends, and a signature
    counts several as one): `urllib.parse.unquote` gives them back.
    """
    return ObjectAttributes(
        "application/dicom",
        {
            "called-ae-title": _escaped(called_ae_title),
            "calling-ae-title": _escaped(calling_ae_title),
            "received-at": received_at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "association-id": _escaped(association_id),
        },
    )


def _escaped(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")
