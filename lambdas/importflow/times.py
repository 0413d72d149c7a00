"""Times as the rows and the manifest write them.

Enters: seconds since the epoch, or text. Leaves: the other. Never: a local time.
"""

import re
from datetime import UTC, datetime

_rfc3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)").fullmatch


def iso_utc(at_s: float) -> str:
    """ISO 8601 in UTC with milliseconds and Z: the order of the texts is the order of the times."""
    at = datetime.fromtimestamp(at_s, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def seconds(text: str) -> float:
    """Seconds since the epoch. Raises ValueError for what is no time with its offset from UTC (RFC 3339)."""
    if _rfc3339(text) is None:
        raise ValueError("not a time")
    return datetime.fromisoformat(text.upper()).timestamp()


def document_utc(at_s: float) -> str:
    """As markers and manifests have it: down to the millisecond, with six digits, or none at a whole second."""
    at = datetime.fromtimestamp(at_s, UTC)
    fraction = f".{at.microsecond // 1000:03d}000" if at.microsecond >= 1000 else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}Z"
