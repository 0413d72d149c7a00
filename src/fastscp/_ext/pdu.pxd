# PDUs and PDVs into messages: see pdu.pyi for the contract.
#
# The core is three calls: `targets` says where the next bytes go, whoever has bytes puts them there, `advance` takes note.
# A socket is read with one scatter read into the targets; `feed` copies. What the headers seen so far promise is read with the next
# header; `look_ahead` adds places for what may follow that, see lookahead.pxd.

from fastscp._ext.dimse cimport COMMAND_CEILING_BYTES
from fastscp._ext.file_meta cimport text_t
from fastscp._ext.lookahead cimport HEADERS_BYTES, MAX_AHEAD, iovec, lookahead_t
from fastscp._ext.memory cimport BufferPool
from fastscp._ext.part10 cimport Instance, refusal, syntax_t

cdef enum:
    MAX_PROMISED = 6           # places for what the headers seen so far promise
    MAX_TARGETS = MAX_PROMISED + 2 * MAX_AHEAD
    PDU_HEADER_BYTES = 6
    PDV_HEADER_BYTES = 6
    SCRATCH_BYTES = 65536

cdef enum event:
    EVENT_NEED_DATA, EVENT_STORE, EVENT_MESSAGE, EVENT_CONTROL, EVENT_SPILL, EVENT_NO_MEMORY, EVENT_PROTOCOL_ERROR
    EVENT_CLOSED, EVENT_TIMEOUT_IDLE, EVENT_TIMEOUT_STALLED, EVENT_WOKEN

# What the bytes after the headers are.
cdef enum payload:
    PAYLOAD_NONE               # a header is being read
    PAYLOAD_CONTROL            # the rest of a PDU that is not P-DATA-TF
    PAYLOAD_COMMAND            # a command fragment
    PAYLOAD_INSTANCE           # a data set fragment of a C-STORE-RQ
    PAYLOAD_OTHER              # a data set fragment of another message
    PAYLOAD_DISCARD            # a data set fragment of a C-STORE-RQ that is not kept

cdef class MessageReader:
    cdef BufferPool pool
    cdef size_t max_pdu
    cdef size_t max_instance
    cdef size_t spill_threshold
    cdef text_t implementation_class
    cdef text_t implementation_version
    cdef text_t source_title

    # Presentation contexts, by id. `accepted` is 0 where the id was not, 1 where it was, 2 where it also stores.
    cdef bint established
    cdef unsigned char accepted[256]
    cdef syntax_t *syntaxes                # owned; 256 entries once established

    # The header that is being read: a PDU header and a PDV header, or a PDV header alone.
    cdef unsigned char header[HEADERS_BYTES]
    cdef int header_fill
    cdef size_t pdu_left                   # bytes of the current P-DATA-TF behind the headers read so far
    cdef payload kind
    cdef size_t payload_left
    cdef bint fragment_last
    cdef lookahead_t ahead
    cdef bint dead
    cdef event pending                     # a result that was not taken yet

    # The message that is being received.
    cdef bint in_message                   # its first fragment has begun
    cdef bint expect_data_set              # its command is complete, its data set is not
    cdef int message_context
    cdef unsigned char *command            # owned, COMMAND_CEILING_BYTES
    cdef size_t command_fill
    cdef Instance current                  # the instance of a C-STORE-RQ; otherwise empty and unused
    cdef bint storing
    cdef bint begin_pending                # the instance waits for the memory of its first segment
    cdef bint discarding
    cdef unsigned char *gathered           # owned: a control PDU, or the data set of another message
    cdef size_t gathered_fill
    cdef size_t gathered_capacity
    cdef unsigned char *scratch            # owned, where discarded bytes go

    cdef const char *problem
    cdef int reason
    cdef size_t total_bytes

    # Where the next bytes go, at most MAX_PROMISED places; their number, or 0 and an event.
    cdef int targets(self, iovec *places, event *why_none) noexcept nogil
    # Adds places for what may come behind these; their new number, at most MAX_TARGETS. Not where something is aside.
    cdef int look_ahead(self, iovec *places, int count) noexcept nogil
    # `count_bytes` arrived at these places, in order.
    cdef event advance(self, size_t count_bytes) noexcept nogil
    # Goes on with what is already here, after an event was dealt with.
    cdef event resume(self) noexcept nogil
    cdef bint under_way(self) noexcept nogil
    # After STORE: the instance was committed, and the next one begins where it was.
    cdef void instance_committed(self) noexcept nogil

    cdef int _header_need(self) noexcept nogil
    cdef event _raise(self, event what) noexcept nogil
    cdef event _check_spill(self) noexcept nogil
    cdef void _start_discarding(self, refusal why) noexcept nogil
    cdef void _drop_gathered(self) noexcept nogil
    cdef Instance _new_instance(self)
    # Before anything is received: it may have to move or free what a view shows.
    cdef int _check_no_views(self) except -1
    cdef event _fail(self, const char *problem, int reason) noexcept nogil
    cdef event _read_header(self) noexcept nogil
    cdef event _read_pdu_header(self) noexcept nogil
    cdef event _read_pdv_header(self) noexcept nogil
    cdef event _fragment_complete(self) noexcept nogil
    cdef event _command_complete(self) noexcept nogil
    cdef event _begin_instance(self) noexcept nogil
    cdef event _instance_complete(self) noexcept nogil
    cdef void _message_over(self) noexcept nogil
    cdef bint _gather(self, size_t count_bytes) noexcept nogil
    # Whether the payload of the next header is at the place where payloads of `repeat_bytes` were expected, as far as it came.
    cdef bint _as_expected(self, size_t repeat_bytes, size_t behind_bytes) noexcept nogil
    # Notes that payload arrived at its place; how much of `count_bytes` was payload.
    cdef size_t _take_payload(self, size_t count_bytes) noexcept nogil
