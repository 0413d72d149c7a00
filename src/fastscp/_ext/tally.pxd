# What was stored: see tally.pyi for the contract.

from libc.stdint cimport int64_t, uint64_t

from fastscp._ext.mutex cimport pthread_mutex_t

cdef enum:
    BUCKETS_CEILING = 32

cdef class Sender:
    cdef uint64_t instances            # guarded by the lock of the tally that counts
    cdef uint64_t bytes_stored

cdef class StoredTally:
    cdef pthread_mutex_t lock          # guards everything below
    cdef int bucket_count
    cdef int64_t bounds_ns[BUCKETS_CEILING]
    cdef uint64_t buckets[BUCKETS_CEILING + 1]
    cdef uint64_t bytes_stored
    cdef int64_t total_ns

    cdef void count(self, Sender sender, size_t dataset_bytes, int64_t store_ns) noexcept nogil
