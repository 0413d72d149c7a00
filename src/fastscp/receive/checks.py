"""What an instance must show before it is stored.

Enters: a complete instance. Leaves: its name, of key-safe UIDs only. Never: a repaired UID, a look beyond the head.
"""

from fastscp._ext.head import Head
from fastscp._ext.part10 import Instance
from fastscp.errors import RefusedError
from fastscp.stores import InstanceName
from fastscp.uids import is_key_safe

SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
AFFECTED_SOP_CLASS_UID = 0x00000002
AFFECTED_SOP_INSTANCE_UID = 0x00001000

INFLATED_HEAD_CEILING_BYTES = 4 << 20
"""Most bytes that the head of a deflated data set is inflated to."""

_DOES_NOT_MATCH = 0xA900  # PS3.4 table B.2-1: Data Set does not match SOP Class
_CANNOT_UNDERSTAND = 0xC000
_OUT_OF_RESOURCES = 0xA700


def read_head(instance: Instance) -> Head:
    """The head of a complete instance, inflated where its syntax is deflated."""
    return instance.inflated_head(INFLATED_HEAD_CEILING_BYTES) if instance.deflated else instance.head


def check_instance(instance: Instance, sop_classes: frozenset[str]) -> InstanceName:
    """The instance's name, or a RefusedError that says what is wrong with it.

    `Instance.ordinary_name` says the same, faster and without the reasons, of nearly every instance.

    Args:
        sop_classes: the only SOP classes that are stored; empty for no such limit.
    """
    if instance.refusal is not None:
        raise _refusal(instance)
    sop_class_uid = instance.sop_class_uid
    sop_instance_uid = instance.sop_instance_uid
    if not sop_class_uid:
        raise RefusedError(_CANNOT_UNDERSTAND, "missing_uid", "The command has no usable SOP Class UID", AFFECTED_SOP_CLASS_UID)
    if not sop_instance_uid:
        raise RefusedError(_CANNOT_UNDERSTAND, "missing_uid", "The command has no usable SOP Instance UID", AFFECTED_SOP_INSTANCE_UID)
    if sop_classes and sop_class_uid not in sop_classes:
        raise RefusedError(0x0122, "sop_class_not_supported", "This SOP Class is not stored here")
    head = read_head(instance)
    if head.state != "complete":
        what = "is not of its transfer syntax" if head.state == "malformed" else "ends inside an element"
        raise RefusedError(_CANNOT_UNDERSTAND, "unreadable_head", f"The data set {what}, byte {head.error_offset}")
    study_instance_uid = _key_part(head.study_instance_uid, "Study Instance UID", STUDY_INSTANCE_UID)
    series_instance_uid = _key_part(head.series_instance_uid, "Series Instance UID", SERIES_INSTANCE_UID)
    _key_part(head.sop_instance_uid, "SOP Instance UID", SOP_INSTANCE_UID)
    if head.sop_class_uid != sop_class_uid:
        comment = "SOP Class UID differs from that of the command"
        raise RefusedError(_DOES_NOT_MATCH, "sop_class_mismatch", comment, SOP_CLASS_UID)
    if head.sop_instance_uid != sop_instance_uid:
        comment = "SOP Instance UID differs from that of the command"
        raise RefusedError(_DOES_NOT_MATCH, "sop_instance_mismatch", comment, SOP_INSTANCE_UID)
    return InstanceName(study_instance_uid, series_instance_uid, sop_instance_uid)


def _key_part(uid: str | None, name: str, tag: int) -> str:
    if not uid:
        raise RefusedError(_CANNOT_UNDERSTAND, "missing_uid", f"{name} is missing or empty", tag)
    if not is_key_safe(uid):
        raise RefusedError(_CANNOT_UNDERSTAND, "unusable_uid", f"{name} is not a UID", tag)
    return uid


def _refusal(instance: Instance) -> RefusedError:
    if instance.refusal == "no_data_set":
        return RefusedError(_CANNOT_UNDERSTAND, "no_data_set", "The C-STORE-RQ has no data set")
    if instance.refusal == "too_large":
        return RefusedError(_OUT_OF_RESOURCES, "too_large", "The data set is longer than this receiver accepts")
    return RefusedError(_OUT_OF_RESOURCES, "no_memory", "Out of memory, send again later")
