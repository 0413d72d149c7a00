# What may follow the bytes that the headers seen so far promise: see lookahead.pyi.
#
# Most senders cut a data set into PDUs of one length. The places that one scatter read fills therefore go on behind the payload and
# the header that must come: as many payloads of the same length as fit, each with the header before the next. What was read there
# counts for nothing until its header was read. Where that is another than expected, what is behind it is set aside, in the order in
# which it came, and comes again at its place.

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef enum:
    MAX_AHEAD = 16
    HEADERS_BYTES = 12         # a PDU header and a PDV header

cdef struct lookahead_t:
    size_t repeat_bytes        # payload that following PDUs are expected to have; 0 where nothing is expected
    unsigned char headers[MAX_AHEAD][HEADERS_BYTES]      # those behind the first, which has its place elsewhere
    unsigned char *aside       # owned, NULL where nothing is aside
    size_t aside_at
    size_t aside_left

# Adds at most 2 x MAX_AHEAD places, the payloads one behind the other in the `room_bytes` from `at`; the new number of places.
cdef int lookahead_places(lookahead_t *ahead, iovec *places, int count, unsigned char *at, size_t room_bytes) noexcept nogil
# Sets aside `count_bytes`, which came at these places: the payloads from `at`, the headers from number `header`. False: no memory.
cdef bint lookahead_set_aside(
    lookahead_t *ahead, const unsigned char *at, int header, size_t repeat_bytes, size_t count_bytes
) noexcept nogil
# Moves what is aside to these places; how many bytes.
cdef size_t lookahead_take_aside(lookahead_t *ahead, const iovec *places, int count) noexcept nogil
cdef void lookahead_free(lookahead_t *ahead) noexcept nogil
