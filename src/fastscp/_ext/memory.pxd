# The memory that instances are received into: see memory.pyi for the contract.

from fastscp._ext.mutex cimport pthread_mutex_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_cond_t:
        pass

cdef enum:
    SEGMENT_CLASSES = 5
    SMALLEST_SEGMENT_BYTES = 65536     # segment of class 0; each class has twice the one before
    FREE_LISTS = 16            # of each class: one for each processor, those of larger machines share

# One stretch of memory. Owned by exactly one of: an Instance's list, a BufferPool's free list.
cdef struct segment_t:
    unsigned char *data
    size_t capacity_bytes
    size_t length_bytes        # filled from the front
    int size_class
    segment_t *next            # the owner's list

cdef class BufferPool:
    cdef pthread_mutex_t lock                       # guards everything below
    cdef pthread_cond_t freed                       # signalled whenever bytes come back
    cdef bint initialised
    cdef segment_t *free_lists[SEGMENT_CLASSES][FREE_LISTS]     # owned; last in, first out, so that reuse is warm
    cdef size_t limit
    cdef size_t reserve                             # of the limit: for one holder at a time
    cdef const void *favoured                       # borrowed, only compared: who may draw on the reserve
    cdef size_t keep
    cdef size_t in_use
    cdef size_t free_total

    # A free segment of the class, off its list: one that was given back on this processor, if there is one. The lock is held.
    cdef segment_t *_take_free(self, int size_class, int processor) noexcept nogil
    # Transfers a segment to the caller; NULL where the budget or the system has none.
    cdef segment_t *acquire(self, int size_class, const void *holder) noexcept nogil
    # Takes a list of segments back from their owner, up to `until`, which is not among them.
    cdef void give_back(self, segment_t *segment, const segment_t *until) noexcept nogil
    # Whether the holder may draw on the reserve from now on; False where it could before, or another may.
    cdef bint favour(self, const void *holder) noexcept nogil
    # The holder, if it is the one, may do so no more. Unless it holds nothing it stays the one as long as a part of the reserve is
    # drawn: what each of many left in use would add up. Returns whether it is the one no more.
    cdef bint unfavour(self, const void *holder, bint holds_nothing) noexcept nogil
    # Whether somebody could go on. The lock is held.
    cdef bint _available(self) noexcept nogil
