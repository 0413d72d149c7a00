"""pynetdicom's events for the messages that its DIMSE provider never sees.

Enters: instances and answers. Leaves: calls of the handlers that somebody bound. Never: a copy of a data set that no handler asked for.
"""

from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from fastscp._ext.part10 import Instance
from fastscp.receive import Answer

if TYPE_CHECKING:
    from fastscp.association.association import StoreAssociation


class _InstanceRequest(C_STORE):
    """A C-STORE request whose data set is copied when a handler looks at it."""

    _instance: Instance | None = None
    _copied: BytesIO | None = None

    @property
    def DataSet(self) -> BytesIO | None:
        """The data set as it came; None where some of it has left memory already."""
        instance = self._instance
        if self._copied is None and instance is not None and not instance.spilled_bytes:
            self._copied = BytesIO(b"".join(instance.segments())[instance.file_meta_bytes :])
        return self._copied

    @DataSet.setter
    def DataSet(self, value: BytesIO | None) -> None:
        """pynetdicom's constructor sets None."""


class StoreEvents:
    """EVT_C_STORE, EVT_DIMSE_RECV and EVT_DIMSE_SENT of one association's C-STORE messages."""

    def __init__(self, assoc: "StoreAssociation") -> None:
        self._assoc = assoc
        self.wanted = False
        """Whether a handler of one of them is bound."""
        self.look_again()

    def look_again(self) -> None:
        """Called whenever a handler was bound or unbound."""
        handlers = self._assoc._handlers
        self.wanted = (
            evt.EVT_DIMSE_RECV in handlers or evt.EVT_DIMSE_SENT in handlers or not self._assoc.has_default_handler(evt.EVT_C_STORE)
        )

    def received(self, instance: Instance) -> Answer | None:
        """Fire the events of a request. Returns the answer where a handler of EVT_C_STORE refuses it."""
        context = self._assoc._accepted_cx[instance.context_id]
        message = C_STORE_RQ()
        message.context_id = instance.context_id
        _set_command(message.command_set, instance)
        message.command_set.CommandDataSetType = 0x0101 if instance.refusal == "no_data_set" else 0x0001
        message.command_set.MessageID = instance.message_id
        evt.trigger(self._assoc, evt.EVT_DIMSE_RECV, {"message": message})
        if instance.refusal is not None or self._assoc.has_default_handler(evt.EVT_C_STORE):
            return None
        return self._ask_handler(instance, context)

    def sent(self, instance: Instance, answer: Answer) -> None:
        """Fire the event of a response."""
        message = C_STORE_RSP()
        message.context_id = instance.context_id
        _set_command(message.command_set, instance)
        message.command_set.CommandDataSetType = 0x0101
        message.command_set.MessageIDBeingRespondedTo = instance.message_id
        message.command_set.Status = answer.status
        evt.trigger(self._assoc, evt.EVT_DIMSE_SENT, {"message": message})

    def _ask_handler(self, instance: Instance, context: PresentationContext) -> Answer | None:
        request = _InstanceRequest()
        request.MessageID = instance.message_id
        request.AffectedSOPClassUID = instance.sop_class_uid
        request.AffectedSOPInstanceUID = instance.sop_instance_uid
        request._context_id = instance.context_id
        request._instance = instance
        try:
            status = evt.trigger(self._assoc, evt.EVT_C_STORE, {"request": request, "context": context.as_tuple})
        except Exception:
            return Answer(0xC211, "The handler of EVT_C_STORE failed")
        finally:
            request._instance = None
        return _answer(status)


def _answer(status: Any) -> Answer | None:
    # As pynetdicom's storage service class takes what a handler returns.
    if isinstance(status, Dataset):
        code = status.get("Status")
        answer = Answer(0xC001 if code is None else int(code), str(status.get("ErrorComment", "")))
    else:
        answer = Answer(status if isinstance(status, int) else 0xC002)
    if not 0x0000 <= answer.status <= 0xFFFF:
        answer = Answer(0xC002)
    return None if answer.status == 0x0000 else answer


def _set_command(command_set: Dataset, instance: Instance) -> None:
    command_set.AffectedSOPClassUID = instance.sop_class_uid
    command_set.AffectedSOPInstanceUID = instance.sop_instance_uid
