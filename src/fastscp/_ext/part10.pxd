# One instance: see part10.pyi for the contract.

from fastscp._ext.file_meta cimport text_t
from fastscp._ext.head cimport Head, head_t
from fastscp._ext.lookahead cimport iovec
from fastscp._ext.memory cimport BufferPool, segment_t

cdef enum:
    PDUS_IN_A_SEGMENT = 4              # so many fit at least, as they are read together

cdef enum refusal:
    REFUSED_NOT, REFUSED_NO_DATA_SET, REFUSED_TOO_LARGE, REFUSED_NO_MEMORY

# What an ordinary instance is called; the bytes are borrowed from its head, without padding and without a NUL.
cdef struct name_t:
    const char *study
    const char *series
    const char *sop_instance
    int study_bytes
    int series_bytes
    int sop_instance_bytes

# What every instance of one presentation context has in common. Owned by the reader's table.
cdef struct syntax_t:
    text_t uid
    bint explicit_vr
    bint little_endian
    bint deflated

cdef class Instance:
    cdef BufferPool pool
    cdef segment_t *first              # owned list, in file order
    cdef segment_t *last
    cdef segment_t *filling            # where the next byte goes; those before it are full, those behind it empty
    cdef int export_count              # live views; memory does not move or leave while there is one
    cdef bint released
    cdef head_t head_scan
    cdef Head inflated                 # of a deflated data set, once its head was found
    cdef syntax_t syntax
    cdef text_t sop_class              # Affected SOP Class UID
    cdef text_t sop_instance           # Affected SOP Instance UID
    cdef int context
    cdef unsigned short message
    cdef refusal why_refused
    cdef bint is_complete
    cdef size_t meta_bytes
    cdef size_t received_bytes         # of data set, wherever they are now
    cdef size_t dropped_bytes          # of the file, from its front: no longer in memory
    cdef size_t spill_interval
    cdef size_t spill_mark             # SPILL comes at this many bytes in memory
    cdef int next_class                # size class of the next segment
    cdef bint lent                     # still its reader's
    cdef bint asked_about              # an event came of it before it was complete: what to do with it is its owner's to say
    cdef int store_error               # errno of what was tried without its owner and failed, 0 where nothing did
    cdef int spill_fd                  # borrowed: where what can leave memory goes without its owner; -1 where it must be asked
    cdef bint favoured                 # may draw on the pool's reserve

    # Whether there is nothing unusual about it; then also its name.
    cdef bint ordinary(self, name_t *name) noexcept nogil
    # As new: for the next instance, where nobody took this one.
    cdef void reset(self) noexcept nogil
    cdef list _views(self, size_t count_bytes)
    # One more segment at the end, NULL where there is none; for PDUs of `pdu_bytes`, 0 where that is not known.
    cdef segment_t *grow(self, size_t pdu_bytes) noexcept nogil
    # Where the next `wanted_bytes` go, as far as there is memory and `most` places are enough: how many places.
    cdef int places(self, iovec *places, int most, size_t wanted_bytes, size_t pdu_bytes, size_t *covered_bytes) noexcept nogil
    # So many bytes are there now.
    cdef void filled(self, size_t count_bytes) noexcept nogil
    cdef size_t held_bytes(self) noexcept nogil
    cdef void scan(self, bint last) noexcept nogil
    cdef void set_spill_mark(self) noexcept nogil
    cdef void free_segments(self) noexcept nogil
    cdef size_t spillable(self) noexcept nogil
    # Writes the first `count_bytes` in memory to `fd`; 0, or errno.
    cdef int write_front(self, int fd, size_t count_bytes) noexcept nogil
    cdef void drop_front(self, size_t count_bytes) noexcept nogil
    # Writes what can leave memory to `spill_fd` and drops it: whether the owner need not be asked.
    cdef bint spill_unasked(self) noexcept nogil
