# The memory that instances are received into: see memory.pyi for the contract.

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass

cdef enum:
    SEGMENT_CLASSES = 5

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
    cdef segment_t *free_lists[SEGMENT_CLASSES]     # owned; last in, first out, so that reuse is warm
    cdef size_t limit
    cdef size_t keep
    cdef size_t in_use
    cdef size_t free_total

    # Transfers a segment to the caller; NULL where the budget or the system has none.
    cdef segment_t *acquire(self, int size_class) noexcept nogil
    # Takes a segment back from its owner.
    cdef void give_back(self, segment_t *segment) noexcept nogil
