"""Stores what one association sends, one instance after the other.

Enters: instances, whole or growing. Leaves: an answer for each, after its commit.
Never: Success before the commit, an upload that is neither committed nor abandoned.
"""

import time
from typing import NamedTuple

from fastscp._ext.part10 import Instance
from fastscp._ext.tally import Sender
from fastscp.errors import RefusedError, StoreError
from fastscp.observe.log import get_logger
from fastscp.observe.metrics import Metrics
from fastscp.receive.checks import INFLATED_HEAD_CEILING_BYTES, check_instance
from fastscp.stores import AssociationStore, InstanceName, Upload
from fastscp.uids import is_conformant, is_key_safe

_log = get_logger("receive")


class Answer(NamedTuple):
    """What the C-STORE-RSP says: PS3.7 table 9.3-2."""

    status: int
    error_comment: str = ""
    offending_element: int = 0

    @property
    def is_warning(self) -> bool:
        """Whether the instance is stored all the same (PS3.7 annex C.4)."""
        return self.status >> 12 == 0xB or self.status in (0x0001, 0x0107, 0x0116)


SUCCESS = Answer(0x0000)


def _internal_error() -> RefusedError:
    return RefusedError(0x0110, "internal_error", "The receiver failed, see its log")


class Intake:
    """The way of one association's instances into the store. Used by that association's thread alone.

    An instance that grows beyond the spill threshold, or that memory is short for, is uploaded while it arrives; `upload`
    stays with the intake until the instance is answered or the association ends.
    """

    def __init__(self, store: AssociationStore, metrics: Metrics, sender: Sender, sop_classes: frozenset[str], association_id: str) -> None:
        self._store = store
        self._metrics = metrics
        self._sender = sender
        self._sop_classes = sop_classes
        self._association_id = association_id
        self._upload: Upload | None = None
        self._refused_early: RefusedError | None = None

    def spill(self, instance: Instance) -> bool:
        """Move what can be moved of a growing instance into the store. Returns False where the rest of it should be discarded."""
        if self._refused_early is not None:
            return False
        if instance.deflated:
            # What left memory cannot be inflated any more: where the head is not found in this much, it is not found at all.
            head = instance.inflated_head(INFLATED_HEAD_CEILING_BYTES)
            if head.state == "incomplete" and instance.file_bytes >= instance.spill_at_bytes:
                self._refused_early = RefusedError(0xC000, "unreadable_head", "The head of the deflated data set was not found")
                return False
        if instance.spillable_bytes() == 0:
            return True
        try:
            if self._upload is None:
                self._upload = self._store.begin_upload(instance)
            self._upload.spill(instance)
        except RefusedError as refused:
            self._refused_early = refused
        except Exception:
            _log.exception("store_failed_unexpectedly", association=self._association_id)
            self._refused_early = _internal_error()
        if self._refused_early is not None:
            self.abandon()
        return self._refused_early is None

    def store(self, instance: Instance) -> Answer:
        """Check and commit a complete instance, release its memory and say what to answer."""
        start = time.monotonic()
        try:
            self._commit(instance)
            self._metrics.stored(self._sender, instance.dataset_bytes, time.monotonic() - start)
            return SUCCESS
        except RefusedError as refused:
            return self._refuse(instance, refused, start)
        except Exception:
            _log.exception("store_failed_unexpectedly", association=self._association_id)
            return self._refuse(instance, _internal_error(), start)
        finally:
            self.abandon()
            self._refused_early = None
            instance.release()

    def refuse(self, instance: Instance, answer: Answer) -> Answer:
        """Answer a complete instance without storing it."""
        refused = RefusedError(answer.status, "handler", answer.error_comment, answer.offending_element)
        self.abandon()
        self._refused_early = None
        self._report(instance, refused, time.monotonic())
        instance.release()
        return answer

    def abandon(self) -> None:
        """Remove what was uploaded of an instance that will not be committed."""
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.abandon()

    def _commit(self, instance: Instance) -> None:
        if self._refused_early is not None:
            raise self._refused_early
        ordinary = instance.ordinary_name()
        name = check_instance(instance, self._sop_classes) if ordinary is None or self._sop_classes else InstanceName(*ordinary)
        upload, self._upload = self._upload, None
        if upload is None:
            self._store.commit(instance, name)
        else:
            upload.commit(instance, name)
        for uid in name if ordinary is None else ():
            if not is_conformant(uid):
                self._metrics.nonconformant_uid()
                _log.warning("uid_not_conformant", association=self._association_id, uid=uid)

    def _refuse(self, instance: Instance, refused: RefusedError, start: float) -> Answer:
        self._report(instance, refused, start)
        return Answer(refused.status, refused.comment, refused.offending_element)

    def _report(self, instance: Instance, refused: RefusedError, start: float) -> None:
        self._metrics.refused(refused.status, refused.reason, time.monotonic() - start)
        _log.warning(
            "instance_refused",
            association=self._association_id,
            status=f"{refused.status:04X}",
            reason=refused.reason,
            comment=refused.comment,
            # What is no UID is text of the peer's, and could be anything.
            sop_instance_uid=instance.sop_instance_uid if is_key_safe(instance.sop_instance_uid or "") else None,
            dataset_bytes=instance.dataset_bytes,
            problem=refused.problem if isinstance(refused, StoreError) else None,
        )
