"""The head of a data set: the few elements that identify an instance (PS3.5 section 7).

Enters: data set bytes, as far as they have arrived. Leaves: five values. Never: a parse beyond (0020,000E), a copy of what it skips.
"""

from typing import Literal, final

from typing_extensions import Buffer

@final
class Head:
    """What identifies an instance, read from the head of its data set (the elements up to (0020,000E)).

    A value is None where the element is absent. UIDs are stripped of trailing NULs and spaces, otherwise as they came,
    decoded as Latin-1 and cut at 128 characters; the study date is the raw value, stripped.
    """

    sop_class_uid: str | None
    sop_instance_uid: str | None
    study_instance_uid: str | None
    series_instance_uid: str | None
    study_date: str | None
    state: Literal["complete", "incomplete", "malformed"]
    """complete: the scan passed (0020,000E) or met a higher tag or the end of the data set between two elements;
    incomplete: the data set ended inside an element; malformed: what stands there is no element of this syntax."""
    error_offset: int
    """Where the data set stopped making sense, in bytes from its first; -1 where it did not."""

def scan_head(data: Buffer, *, explicit_vr: bool, little_endian: bool, last: bool = True) -> Head:
    """Scan the head of a data set that is all in one buffer. For tests and for inflated heads.

    Args:
        last: False where more bytes would follow: a scan that runs out of bytes then reports "incomplete".
    """
