"""PDUs and PDVs into messages (PS3.8 section 9.3, annex E; PS3.7 section 6.3), in plain Python.

Enters: bytes, in any cuts. Leaves: one event at a time. Never: counts memory (so it knows no SPILL and no NO_MEMORY).
"""

import struct
from collections.abc import Generator

from fastscp.errors import ProtocolError
from reference.reference_dimse import C_STORE_RQ, COMMAND_SET_CEILING_BYTES, decode_command
from reference.reference_part10 import Instance, encode_file_meta

NEED_DATA = "NEED_DATA"
STORE = "STORE"
MESSAGE = "MESSAGE"
CONTROL = "CONTROL"
PROTOCOL_ERROR = "PROTOCOL_ERROR"

ASSOCIATE_TYPES = (0x01, 0x02, 0x03)
P_DATA_TF = 0x04
RELEASE_AND_ABORT_TYPES = (0x05, 0x06, 0x07)

# PS3.8 table 9-26, source 2 (service provider).
UNRECOGNIZED_PDU = 1
UNEXPECTED_PDU = 2
INVALID_PDU_PARAMETER_VALUE = 6

ASSOCIATE_CEILING_BYTES = 1024 * 1024
MESSAGE_DATA_SET_CEILING_BYTES = 1024 * 1024
PDU_HEADER_BYTES = 6
PDV_HEADER_BYTES = 6

COMMAND_BIT = 0x01
LAST_BIT = 0x02

Reading = Generator[str, None, bytes]
Events = Generator[str, None, None]


class MessageReader:
    """Same surface as the native one, as far as memory is not concerned. The whole conversation is one generator, `_pdus`."""

    def __init__(
        self,
        pool: object = None,
        *,
        max_pdu_bytes: int,
        max_instance_bytes: int,
        spill_threshold_bytes: int,
        implementation_class_uid: str,
        implementation_version_name: str,
    ) -> None:
        self._p_data_ceiling_bytes = 2 * max_pdu_bytes + 65536
        self._max_instance_bytes = max_instance_bytes
        self._implementation = (implementation_class_uid, implementation_version_name)
        self._established = False
        self._contexts: dict[int, str] = {}
        self._store_context_ids: frozenset[int] = frozenset()
        self._source_ae_title = ""

        self._pending = bytearray()
        self._in_pdu = False
        self._context_id: int | None = None
        self._command_set = bytearray()
        self._data_set = bytearray()
        self._expects_data_set = False
        self._result: object = None
        self.instance: Instance | None = None
        self.error_text = ""
        self.abort_reason = 0
        self.received_bytes = 0
        self._events = self._run()

    def establish(self, contexts: dict[int, str], store_context_ids: frozenset[int], source_ae_title: str) -> None:
        self._contexts = dict(contexts)
        self._store_context_ids = store_context_ids
        self._source_ae_title = source_ae_title
        self._established = True

    def feed(self, data: bytes) -> tuple[str, int]:
        self._pending += data
        event = next(self._events)
        consumed = len(data) - (0 if event == NEED_DATA else len(self._pending))
        if event != NEED_DATA:
            self._pending.clear()
        self.received_bytes += consumed
        return event, consumed

    @property
    def mid_message(self) -> bool:
        return bool(self._pending) or self._in_pdu or self._context_id is not None

    def take_instance(self) -> Instance:
        instance, self.instance = self.instance, None
        assert instance is not None
        return instance

    def take_message(self) -> tuple[int, bytes, bytes]:
        message = self._result
        assert isinstance(message, tuple)
        return message

    def take_control_pdu(self) -> bytes:
        assert isinstance(self._result, bytes)
        return self._result

    def discard(self) -> None:
        assert self.instance is not None
        if self.instance.refusal is None:
            self.instance.refusal = "no_memory"
            self.instance.data_set.clear()

    # The conversation. Each step yields events and takes bytes from `_pending` only when all that it needs is there.

    def _run(self) -> Events:
        try:
            yield from self._pdus()
        except ProtocolError as error:
            self.error_text = str(error)
            self.abort_reason = error.abort_reason
        while True:
            yield PROTOCOL_ERROR

    def _peek(self, count_bytes: int) -> Reading:
        while len(self._pending) < count_bytes:
            yield NEED_DATA
        return bytes(self._pending[:count_bytes])

    def _take(self, count_bytes: int) -> Reading:
        taken = yield from self._peek(count_bytes)
        del self._pending[:count_bytes]
        return taken

    def _pdus(self) -> Events:
        while True:
            pdu_type = (yield from self._peek(1))[0]
            if not 0x01 <= pdu_type <= 0x07:
                raise ProtocolError("unrecognized PDU type", UNRECOGNIZED_PDU)
            if pdu_type == P_DATA_TF and not self._established:
                raise ProtocolError("P-DATA-TF before the association is established", UNEXPECTED_PDU)
            header = yield from self._take(PDU_HEADER_BYTES)
            self._in_pdu = True
            (length,) = struct.unpack(">L", header[2:6])
            if pdu_type == P_DATA_TF:
                if not PDV_HEADER_BYTES <= length <= self._p_data_ceiling_bytes:
                    raise ProtocolError("P-DATA-TF length", INVALID_PDU_PARAMETER_VALUE)
                yield from self._pdvs(length)
            else:
                if pdu_type in ASSOCIATE_TYPES and length > ASSOCIATE_CEILING_BYTES:
                    raise ProtocolError("A-ASSOCIATE length", INVALID_PDU_PARAMETER_VALUE)
                if pdu_type in RELEASE_AND_ABORT_TYPES and length != 4:
                    raise ProtocolError("release or abort length", INVALID_PDU_PARAMETER_VALUE)
                if self._expects_data_set and self.instance is None:
                    # No control PDU lets P-DATA-TF follow (PS3.8 table 9-10, Sta6): what was there of the message is of no use.
                    self._forget_message()
                self._result = header + (yield from self._take(length))
                self._in_pdu = False
                yield CONTROL

    def _pdvs(self, remaining_bytes: int) -> Events:
        while remaining_bytes:
            header = yield from self._take(PDV_HEADER_BYTES)
            length, context_id, control = struct.unpack(">LBB", header)
            if length < 2 or 4 + length > remaining_bytes:
                raise ProtocolError("PDV length", INVALID_PDU_PARAMETER_VALUE)
            if context_id not in self._contexts:
                raise ProtocolError("unknown presentation context", INVALID_PDU_PARAMETER_VALUE)
            if self._context_id not in (None, context_id):
                raise ProtocolError("presentation context changes inside a message", INVALID_PDU_PARAMETER_VALUE)
            if bool(control & COMMAND_BIT) == self._expects_data_set:
                raise ProtocolError("command where data set is expected, or the other way round", INVALID_PDU_PARAMETER_VALUE)
            remaining_bytes -= 4 + length
            if 0 < remaining_bytes < PDV_HEADER_BYTES:
                raise ProtocolError("the rest of the PDU holds no PDV", INVALID_PDU_PARAMETER_VALUE)
            self._context_id = context_id
            fragment_bytes = length - 2
            is_last = bool(control & LAST_BIT)
            if not self._expects_data_set:
                if len(self._command_set) + fragment_bytes > COMMAND_SET_CEILING_BYTES:
                    raise ProtocolError("command set too long", INVALID_PDU_PARAMETER_VALUE)
                self._command_set += yield from self._take(fragment_bytes)
                if remaining_bytes == 0:
                    self._in_pdu = False
                if is_last:
                    yield from self._command_is_complete(context_id)
            else:
                is_message = self.instance is None
                if is_message and len(self._data_set) + fragment_bytes > MESSAGE_DATA_SET_CEILING_BYTES:
                    raise ProtocolError("data set of a message too long", INVALID_PDU_PARAMETER_VALUE)
                fragment = yield from self._take(fragment_bytes)
                if remaining_bytes == 0:
                    self._in_pdu = False
                if is_message:
                    self._data_set += fragment
                else:
                    self._add_to_instance(fragment)
                if is_last:
                    yield from self._message_is_complete(context_id)

    def _command_is_complete(self, context_id: int) -> Events:
        command = decode_command(bytes(self._command_set))
        self._expects_data_set = command.has_data_set
        if command.command_field == C_STORE_RQ and context_id in self._store_context_ids:
            if command.message_id is None:
                raise ProtocolError("a C-STORE-RQ that cannot be answered: no Message ID", INVALID_PDU_PARAMETER_VALUE)
            self.instance = Instance(
                context_id=context_id,
                message_id=command.message_id,
                sop_class_uid=command.sop_class_uid,
                sop_instance_uid=command.sop_instance_uid,
                transfer_syntax_uid=self._contexts[context_id],
                file_meta=encode_file_meta(
                    command.sop_class_uid or "",
                    command.sop_instance_uid or "",
                    self._contexts[context_id],
                    self._source_ae_title,
                    *self._implementation,
                ),
            )
        if not command.has_data_set:
            if self.instance is not None:
                self.instance.refusal = "no_data_set"
            yield from self._message_is_complete(context_id)

    def _add_to_instance(self, fragment: bytes) -> None:
        instance = self.instance
        assert instance is not None
        instance.dataset_bytes += len(fragment)
        if instance.refusal is None and instance.dataset_bytes > self._max_instance_bytes:
            instance.refusal = "too_large"
            instance.data_set.clear()
        if instance.refusal is None:
            instance.data_set += fragment

    def _message_is_complete(self, context_id: int) -> Events:
        message = (context_id, bytes(self._command_set), bytes(self._data_set))
        self._forget_message()
        if self.instance is None:
            self._result = message
            yield MESSAGE
        else:
            self.instance.complete = True
            yield STORE

    def _forget_message(self) -> None:
        self._context_id = None
        self._command_set.clear()
        self._data_set.clear()
        self._expects_data_set = False
