# cython: language_level=3
"""PDUs and PDVs into messages (PS3.8 section 9.3, annex E; PS3.7 section 6.3).

Enters: bytes, in any cuts. Leaves: one event at a time. Never: reads a socket, believes a length before checking it.
"""

cimport cython
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove

from fastscp._ext.dimse cimport command_decode, command_t
from fastscp._ext.file_meta cimport AE_TITLE_BYTES, UID_BYTES, file_meta_encode, text_set
from fastscp._ext.head cimport head_start
from fastscp._ext.lookahead cimport HEADERS_BYTES, lookahead_free, lookahead_places, lookahead_set_aside
from fastscp._ext.memory cimport segment_t
from fastscp._ext.part10 cimport REFUSED_NO_DATA_SET, REFUSED_NO_MEMORY, REFUSED_TOO_LARGE, refusal

from fastscp.uids import transfer_syntax_encoding

NEED_DATA = <int>EVENT_NEED_DATA
STORE = <int>EVENT_STORE
MESSAGE = <int>EVENT_MESSAGE
CONTROL = <int>EVENT_CONTROL
SPILL = <int>EVENT_SPILL
NO_MEMORY = <int>EVENT_NO_MEMORY
PROTOCOL_ERROR = <int>EVENT_PROTOCOL_ERROR
CLOSED = <int>EVENT_CLOSED
TIMEOUT_IDLE = <int>EVENT_TIMEOUT_IDLE
TIMEOUT_STALLED = <int>EVENT_TIMEOUT_STALLED
WOKEN = <int>EVENT_WOKEN

cdef enum:
    PDU_ASSOCIATE_RQ = 1
    PDU_ASSOCIATE_RJ = 3
    PDU_P_DATA = 4
    PDU_ABORT = 7
    PDV_COMMAND = 1            # bits of the message control header, PS3.8 annex E.2; the others are not tested
    PDV_LAST = 2
    C_STORE_RQ = 0x0001
    # A-ABORT reasons, PS3.8 table 9-26.
    REASON_UNRECOGNIZED_PDU = 1
    REASON_UNEXPECTED_PDU = 2
    REASON_INVALID_PARAMETER = 6

cdef size_t ASSOCIATE_CEILING_BYTES = 1048576
cdef size_t OTHER_DATA_SET_CEILING_BYTES = 1048576
# Senders exceed the maximum that they agreed to (an item header, or twice the length); that much is let pass.
cdef size_t PDU_TOLERANCE_BYTES = 65536


cdef inline uint32_t _get_be32(const unsigned char *data) noexcept nogil:
    return <uint32_t>data[0] << 24 | <uint32_t>data[1] << 16 | <uint32_t>data[2] << 8 | <uint32_t>data[3]


# No cycle can go through it, see Instance.
@cython.final
@cython.no_gc
cdef class MessageReader:
    """Frames one connection's bytes into events. See pdu.pyi."""

    def __cinit__(
        self,
        BufferPool pool not None,
        *,
        size_t max_pdu_bytes,
        size_t max_instance_bytes,
        size_t spill_threshold_bytes,
        implementation_class_uid,
        implementation_version_name,
    ):
        self.pool = pool
        self.max_pdu = max_pdu_bytes
        self.max_instance = max_instance_bytes
        self.spill_threshold = spill_threshold_bytes
        text_set(&self.implementation_class, implementation_class_uid, UID_BYTES)
        text_set(&self.implementation_version, implementation_version_name, AE_TITLE_BYTES)
        self.current = self._new_instance()

    def __dealloc__(self):
        free(self.syntaxes)
        free(self.command)
        free(self.gathered)
        free(self.scratch)
        lookahead_free(&self.ahead)

    cdef Instance _new_instance(self):
        cdef Instance instance = Instance.__new__(Instance)
        instance.pool = self.pool
        instance.lent = True
        return instance

    def establish(self, contexts, store_context_ids, source_ae_title):
        cdef syntax_t *syntax
        if self.established:
            raise ValueError("the association is established already")
        if self.command is NULL:
            self.command = <unsigned char *>malloc(COMMAND_CEILING_BYTES)
        if self.syntaxes is NULL:
            self.syntaxes = <syntax_t *>calloc(256, sizeof(syntax_t))
        if self.command is NULL or self.syntaxes is NULL:
            raise MemoryError
        text_set(&self.source_title, source_ae_title, AE_TITLE_BYTES)
        for context_id, transfer_syntax_uid in contexts.items():
            if not 1 <= context_id <= 255:
                raise ValueError(f"no presentation context id: {context_id}")
            syntax = &self.syntaxes[<int>context_id]
            text_set(&syntax.uid, transfer_syntax_uid, UID_BYTES)
            syntax.explicit_vr, syntax.little_endian, syntax.deflated = transfer_syntax_encoding(transfer_syntax_uid)
            self.accepted[<int>context_id] = 2 if context_id in store_context_ids else 1
        self.established = True

    cdef event _fail(self, const char *problem, int reason) noexcept nogil:
        self.problem = problem
        self.reason = reason
        self.dead = True
        if self.current.export_count == 0:
            self.current.free_segments()
        return EVENT_PROTOCOL_ERROR

    cdef event _raise(self, event what) noexcept nogil:
        # Stands until its result is taken.
        self.pending = what
        return what

    cdef bint under_way(self) noexcept nogil:
        return self.header_fill > 0 or self.kind != PAYLOAD_NONE or self.pdu_left > 0 or self.in_message or self.ahead.aside_left > 0

    cdef int _header_need(self) noexcept nogil:
        return PDV_HEADER_BYTES if self.pdu_left else HEADERS_BYTES

    cdef int targets(self, iovec *places, event *why_none) noexcept nogil:
        cdef int count = 1
        cdef size_t covered_bytes = self.payload_left
        why_none[0] = EVENT_NEED_DATA
        if self.kind == PAYLOAD_NONE:
            places[0].iov_base = self.header + self.header_fill
            places[0].iov_len = <size_t>(self._header_need() - self.header_fill)
            return 1
        if self.kind == PAYLOAD_INSTANCE:
            count = self.current.places(places, MAX_PROMISED - 1, self.payload_left, self.ahead.repeat_bytes, &covered_bytes)
        elif self.kind == PAYLOAD_COMMAND:
            places[0].iov_base = self.command + self.command_fill
        elif self.kind == PAYLOAD_DISCARD:
            places[0].iov_base = self.scratch
            covered_bytes = min(self.payload_left, <size_t>SCRATCH_BYTES)
        elif self._gather(self.payload_left):
            places[0].iov_base = self.gathered + self.gathered_fill
        else:
            count = 0
        if count == 0:
            why_none[0] = EVENT_NO_MEMORY
            return 0
        if self.kind != PAYLOAD_INSTANCE:
            places[0].iov_len = covered_bytes
        # The next header comes with the payload, unless a control PDU ends here: what follows that may never come.
        if covered_bytes == self.payload_left and self.kind != PAYLOAD_CONTROL:
            places[count].iov_base = self.header
            places[count].iov_len = <size_t>self._header_need()
            count += 1
        return count

    cdef int look_ahead(self, iovec *places, int count) noexcept nogil:
        # In the segment where the payload ends and below the spill mark, so that nothing of it has to move while all is as expected
        # (benchmarks: work "ct-null-8", 1.05 instead of 0.87 of the floor's rate; with FASTSCP_MAX_PDU=16384, CPU x 0.88).
        cdef segment_t *segment = self.current.last
        cdef size_t held_bytes = self.current.held_bytes() + self.payload_left
        cdef size_t room_bytes
        cdef unsigned char *at
        if self.kind != PAYLOAD_INSTANCE or not self.ahead.repeat_bytes or self.ahead.aside_left:
            return count
        if places[count - 1].iov_base != <void *>self.header or held_bytes >= self.current.spill_mark:
            return count
        at = <unsigned char *>places[count - 2].iov_base + places[count - 2].iov_len
        if not segment.data < at < segment.data + segment.capacity_bytes:
            return count
        room_bytes = min(<size_t>(segment.data + segment.capacity_bytes - at), self.current.spill_mark - held_bytes)
        return lookahead_places(&self.ahead, places, count, at, room_bytes)

    cdef bint _as_expected(self, size_t repeat_bytes, size_t behind_bytes) noexcept nogil:
        cdef size_t pdu_bytes = _get_be32(self.header + 2)
        cdef size_t payload_bytes = pdu_bytes - PDV_HEADER_BYTES
        if self.fragment_last or self.header[0] != PDU_P_DATA or pdu_bytes <= PDV_HEADER_BYTES:
            return False
        # Discarding begins with the header of what is too large, and takes the memory.
        if _get_be32(self.header + PDU_HEADER_BYTES) != payload_bytes + 2 or payload_bytes > self.max_instance - self.current.received_bytes:
            return False
        return payload_bytes == repeat_bytes or behind_bytes <= min(payload_bytes, repeat_bytes)

    cdef bint _gather(self, size_t count_bytes) noexcept nogil:
        cdef size_t needed_bytes = self.gathered_fill + count_bytes
        cdef unsigned char *grown
        if needed_bytes <= self.gathered_capacity:
            return True
        grown = <unsigned char *>realloc(self.gathered, needed_bytes)
        if grown is NULL:
            return False
        self.gathered = grown
        self.gathered_capacity = needed_bytes
        return True

    cdef size_t _take_payload(self, size_t count_bytes) noexcept nogil:
        cdef size_t taken_bytes = min(count_bytes, self.payload_left)
        self.payload_left -= taken_bytes
        if self.kind == PAYLOAD_COMMAND:
            self.command_fill += taken_bytes
        elif self.kind == PAYLOAD_CONTROL or self.kind == PAYLOAD_OTHER:
            self.gathered_fill += taken_bytes
        else:
            self.current.received_bytes += taken_bytes
            if self.kind == PAYLOAD_INSTANCE:
                self.current.filled(taken_bytes)
        return taken_bytes

    cdef event advance(self, size_t count_bytes) noexcept nogil:
        cdef size_t repeat_bytes = self.ahead.repeat_bytes
        cdef int ahead = -1        # the first header is at its place already
        cdef segment_t *segment
        cdef event what
        self.total_bytes += count_bytes
        if self.kind == PAYLOAD_NONE:
            self.header_fill += <int>count_bytes
            return self._read_header()
        while True:
            count_bytes -= self._take_payload(count_bytes)
            if self.payload_left:
                return self._check_spill()
            self.header_fill = <int>min(count_bytes, <size_t>self._header_need())
            if ahead >= 0:
                memcpy(self.header, self.ahead.headers[ahead], self.header_fill)
            ahead += 1
            count_bytes -= <size_t>self.header_fill
            if count_bytes and not self._as_expected(repeat_bytes, count_bytes):
                # Now: the segments may leave with the fragment or the header.
                segment = self.current.filling
                if not lookahead_set_aside(&self.ahead, segment.data + segment.length_bytes, ahead, repeat_bytes, count_bytes):
                    return self._fail("out of memory", 0)
                self.total_bytes -= count_bytes
                count_bytes = 0
            what = self._fragment_complete()
            if what == EVENT_NEED_DATA and self.kind == PAYLOAD_NONE:
                what = self._read_header()
            if what == EVENT_NEED_DATA:
                what = self._check_spill()
            if what != EVENT_NEED_DATA or count_bytes == 0:
                return what

    cdef event _check_spill(self) noexcept nogil:
        if not self.storing or self.discarding or self.begin_pending:
            return EVENT_NEED_DATA
        if self.current.held_bytes() < self.current.spill_mark:
            return EVENT_NEED_DATA
        # Whoever does not spill now is asked again later, not at every read.
        self.current.spill_mark = self.current.held_bytes() + self.current.spill_interval
        return EVENT_SPILL

    cdef event resume(self) noexcept nogil:
        cdef event what
        if self.dead:
            return EVENT_PROTOCOL_ERROR
        if self.pending != EVENT_NEED_DATA:
            return self.pending
        if self.begin_pending:
            what = self._begin_instance()
            if what != EVENT_NEED_DATA:
                return what
        if self.kind == PAYLOAD_NONE:
            return self._read_header()
        return EVENT_NEED_DATA

    cdef event _read_header(self) noexcept nogil:
        # As long as whole headers are here: a fragment without payload is complete with its header.
        cdef event what = EVENT_NEED_DATA
        while what == EVENT_NEED_DATA and self.kind == PAYLOAD_NONE and self.header_fill:
            if not self.pdu_left:
                what = self._read_pdu_header()
                if what != EVENT_NEED_DATA or self.kind != PAYLOAD_NONE:
                    return what
            if self.header_fill < self._header_need() or not self.pdu_left:
                return EVENT_NEED_DATA
            what = self._read_pdv_header()
        return what

    cdef event _read_pdu_header(self) noexcept nogil:
        # Judges each byte as soon as it is here. Starts a control PDU, or leaves P-DATA-TF to _read_pdv_header.
        cdef int pdu_type = self.header[0]
        cdef size_t length_bytes
        cdef int extra_bytes
        if not PDU_ASSOCIATE_RQ <= pdu_type <= PDU_ABORT:
            return self._fail("the first byte is not that of a PDU", REASON_UNRECOGNIZED_PDU)
        if pdu_type == PDU_P_DATA and not self.established:
            return self._fail("P-DATA-TF before the association", REASON_UNEXPECTED_PDU)
        if self.header_fill < PDU_HEADER_BYTES:
            return EVENT_NEED_DATA
        length_bytes = _get_be32(self.header + 2)
        if pdu_type == PDU_P_DATA:
            if length_bytes < PDV_HEADER_BYTES or length_bytes > 2 * self.max_pdu + PDU_TOLERANCE_BYTES:
                return self._fail("the length of a P-DATA-TF is out of bounds", REASON_INVALID_PARAMETER)
            if self.header_fill == HEADERS_BYTES:
                self.pdu_left = length_bytes
                self.header_fill = PDV_HEADER_BYTES
                memmove(self.header, self.header + PDU_HEADER_BYTES, PDV_HEADER_BYTES)
            return EVENT_NEED_DATA
        if length_bytes > ASSOCIATE_CEILING_BYTES or (pdu_type > PDU_ASSOCIATE_RJ and length_bytes != 4):
            return self._fail("the length of a PDU is out of bounds", REASON_INVALID_PARAMETER)
        if self.expect_data_set and not self.storing:
            # What was gathered of the other message shares its memory with the control PDU.
            self._message_over()
        self._drop_gathered()
        if not self._gather(PDU_HEADER_BYTES + length_bytes):
            return EVENT_NO_MEMORY
        extra_bytes = <int>min(<size_t>(self.header_fill - PDU_HEADER_BYTES), length_bytes)
        memcpy(self.gathered, self.header, PDU_HEADER_BYTES + extra_bytes)
        self.gathered_fill = PDU_HEADER_BYTES + extra_bytes
        self.header_fill -= PDU_HEADER_BYTES + extra_bytes
        memmove(self.header, self.header + PDU_HEADER_BYTES + extra_bytes, self.header_fill)
        self.payload_left = length_bytes - extra_bytes
        self.kind = PAYLOAD_CONTROL
        if self.payload_left == 0:
            return self._fragment_complete()
        return EVENT_NEED_DATA

    cdef event _read_pdv_header(self) noexcept nogil:
        cdef size_t item_bytes = _get_be32(self.header)
        cdef int context = self.header[4]
        cdef unsigned char control = self.header[5]
        self.header_fill = 0
        if item_bytes < 2 or item_bytes > self.pdu_left - 4:
            return self._fail("the length of a presentation data value does not fit its PDU", REASON_INVALID_PARAMETER)
        self.pdu_left -= 4 + item_bytes
        if 0 < self.pdu_left < PDV_HEADER_BYTES:
            return self._fail("a PDU ends inside a header", REASON_INVALID_PARAMETER)
        if not self.accepted[context]:
            return self._fail("a presentation context was used that was not accepted", REASON_INVALID_PARAMETER)
        if self.in_message and context != self.message_context:
            return self._fail("a message changes its presentation context", REASON_INVALID_PARAMETER)
        if control & PDV_COMMAND and self.expect_data_set:
            return self._fail("a command fragment where a data set is due", REASON_INVALID_PARAMETER)
        if not (control & PDV_COMMAND or self.expect_data_set):
            return self._fail("a data set fragment where a command is due", REASON_INVALID_PARAMETER)
        self.in_message = True
        self.message_context = context
        self.fragment_last = control & PDV_LAST
        self.payload_left = item_bytes - 2
        self.ahead.repeat_bytes = 0
        if not self.expect_data_set:
            self.kind = PAYLOAD_COMMAND
            if self.payload_left > COMMAND_CEILING_BYTES - self.command_fill:
                return self._fail("a command set is too long", REASON_INVALID_PARAMETER)
        elif not self.storing:
            self.kind = PAYLOAD_OTHER
            if self.payload_left > OTHER_DATA_SET_CEILING_BYTES - self.gathered_fill:
                return self._fail("the data set of a message that is not C-STORE is too long", REASON_INVALID_PARAMETER)
        else:
            if not self.discarding and self.payload_left > self.max_instance - self.current.received_bytes:
                self._start_discarding(REFUSED_TOO_LARGE)
                if self.scratch is NULL:
                    return self._fail("out of memory", 0)
            self.kind = PAYLOAD_DISCARD if self.discarding else PAYLOAD_INSTANCE
            if self.pdu_left == 0 and not self.fragment_last:
                self.ahead.repeat_bytes = self.payload_left
        if self.payload_left == 0:
            return self._fragment_complete()
        return EVENT_NEED_DATA

    cdef void _start_discarding(self, refusal why) noexcept nogil:
        if self.scratch is NULL:
            self.scratch = <unsigned char *>malloc(SCRATCH_BYTES)
        self.discarding = True
        self.begin_pending = False
        self.current.why_refused = why
        self.current.spill_fd = -1
        self.current.free_segments()
        if self.kind == PAYLOAD_INSTANCE:
            self.kind = PAYLOAD_DISCARD

    cdef event _fragment_complete(self) noexcept nogil:
        cdef payload kind = self.kind
        self.kind = PAYLOAD_NONE
        if kind == PAYLOAD_CONTROL:
            return self._raise(EVENT_CONTROL)
        if not self.fragment_last:
            return EVENT_NEED_DATA
        if kind == PAYLOAD_COMMAND:
            return self._command_complete()
        if kind == PAYLOAD_OTHER:
            return self._raise(EVENT_MESSAGE)
        return self._instance_complete()

    cdef event _command_complete(self) noexcept nogil:
        cdef command_t command
        if not command_decode(&command, self.command, self.command_fill):
            return self._fail("an element of a command set is longer than the command set", REASON_INVALID_PARAMETER)
        self.expect_data_set = command.has_data_set
        if not (command.has_field and command.field == C_STORE_RQ and self.accepted[self.message_context] == 2):
            return EVENT_NEED_DATA if command.has_data_set else self._raise(EVENT_MESSAGE)
        if not command.has_message:
            return self._fail("a C-STORE-RQ without a message id", REASON_INVALID_PARAMETER)
        self.storing = True
        self.current.context = self.message_context
        self.current.message = command.message
        self.current.sop_class = command.sop_class
        self.current.sop_instance = command.sop_instance
        self.current.syntax = self.syntaxes[self.message_context]
        head_start(&self.current.head_scan, self.current.syntax.explicit_vr, self.current.syntax.little_endian)
        if not command.has_data_set:
            self.current.why_refused = REFUSED_NO_DATA_SET
            self.discarding = True
            return self._instance_complete()
        return self._begin_instance()

    cdef event _begin_instance(self) noexcept nogil:
        cdef segment_t *segment = self.current.grow(0)
        self.begin_pending = segment is NULL
        if self.begin_pending:
            return EVENT_NO_MEMORY
        self.current.spill_interval = self.spill_threshold
        self.current.spill_mark = self.spill_threshold
        self.current.meta_bytes = file_meta_encode(
            segment.data,
            &self.current.sop_class,
            &self.current.sop_instance,
            &self.current.syntax.uid,
            &self.source_title,
            &self.implementation_class,
            &self.implementation_version,
        )
        segment.length_bytes = self.current.meta_bytes
        return EVENT_NEED_DATA

    cdef event _instance_complete(self) noexcept nogil:
        if not self.discarding:
            self.current.scan(True)
        self.current.is_complete = True
        return self._raise(EVENT_STORE)

    cdef void _drop_gathered(self) noexcept nogil:
        # Rare and possibly large: not kept for the next one.
        free(self.gathered)
        self.gathered = NULL
        self.gathered_fill = 0
        self.gathered_capacity = 0

    cdef void _message_over(self) noexcept nogil:
        self.pending = EVENT_NEED_DATA
        self.in_message = False
        self.expect_data_set = False
        self.storing = False
        self.discarding = False
        self.begin_pending = False
        self.command_fill = 0
        self._drop_gathered()

    cdef void instance_committed(self) noexcept nogil:
        self.current.reset()
        self._message_over()

    cdef int _check_no_views(self) except -1:
        if self.current.export_count:
            raise BufferError(f"{self.current.export_count} views of the instance are alive")
        return 0

    def feed(self, data):
        cdef const unsigned char[::1] view = memoryview(data).cast("B")
        cdef size_t length_bytes = <size_t>view.shape[0]
        cdef size_t at = 0
        cdef size_t taken_bytes, piece_bytes
        cdef iovec places[MAX_TARGETS]
        cdef int count, i
        cdef event what
        self._check_no_views()
        what = self.resume()
        while what == EVENT_NEED_DATA and at < length_bytes:
            count = self.targets(places, &what)
            taken_bytes = 0
            for i in range(count):
                piece_bytes = min(places[i].iov_len, length_bytes - at)
                memcpy(places[i].iov_base, &view[0] + at, piece_bytes)
                at += piece_bytes
                taken_bytes += piece_bytes
                if at == length_bytes:
                    break
            if count:
                what = self.advance(taken_bytes)
        return <int>what, at

    @property
    def mid_message(self):
        return bool(self.under_way())

    @property
    def instance(self):
        return self.current if self.storing else None

    def take_instance(self):
        cdef Instance instance = self.current
        if self.pending != EVENT_STORE:
            raise ValueError("no instance is complete")
        self.current = self._new_instance()
        self._message_over()
        instance.lent = False
        return instance

    def take_message(self):
        cdef object message
        if self.pending != EVENT_MESSAGE:
            raise ValueError("no message is complete")
        message = (
            self.message_context,
            (<char *>self.command)[:self.command_fill],
            (<char *>self.gathered)[:self.gathered_fill] if self.gathered_fill else b"",
        )
        self._message_over()
        return message

    def take_control_pdu(self):
        if self.pending != EVENT_CONTROL:
            raise ValueError("no PDU is complete")
        pdu = (<char *>self.gathered)[:self.gathered_fill]
        self._drop_gathered()
        self.pending = EVENT_NEED_DATA
        return pdu

    def discard(self):
        if not self.storing or self.current.is_complete:
            raise ValueError("no instance is being received")
        self._check_no_views()
        if not self.discarding:
            self._start_discarding(REFUSED_NO_MEMORY)
            if self.scratch is NULL:
                raise MemoryError

    def close(self):
        self._check_no_views()
        if not self.dead:
            self._fail("the reader was closed", 0)
        self.current.free_segments()
        self._drop_gathered()

    @property
    def error_text(self):
        return self.problem.decode("ascii") if self.problem is not NULL else ""

    @property
    def abort_reason(self):
        return self.reason

    @property
    def received_bytes(self):
        return self.total_bytes
