# cython: language_level=3
"""What was stored, counted without the interpreter lock.

Enters: one call for each instance that was committed. Leaves: counts when somebody asks. Never: a count that is taken back.
"""

cimport cython

from fastscp._ext.mutex cimport fastscp_mutex_init, pthread_mutex_destroy, pthread_mutex_lock, pthread_mutex_unlock


@cython.final
@cython.no_gc
cdef class Sender:
    """See tally.pyi."""

    @property
    def instance_count(self):
        return self.instances

    @property
    def dataset_bytes(self):
        return self.bytes_stored


# Line tracing (the coverage build) would want the interpreter lock while the tally's is held: not in what holds that.
@cython.final
@cython.no_gc
cdef class StoredTally:
    """See tally.pyi."""

    def __cinit__(self, bounds_s):
        cdef int i
        fastscp_mutex_init(&self.lock)
        if len(bounds_s) > BUCKETS_CEILING:
            raise ValueError(f"at most {BUCKETS_CEILING} bounds")
        self.bucket_count = <int>len(bounds_s)
        for i in range(self.bucket_count):
            self.bounds_ns[i] = <int64_t>(bounds_s[i] * 1e9 + 0.5)
            if i and self.bounds_ns[i] <= self.bounds_ns[i - 1]:
                raise ValueError("the bounds do not ascend")

    def __dealloc__(self):
        pthread_mutex_destroy(&self.lock)

    @cython.linetrace(False)
    cdef void count(self, Sender sender, size_t dataset_bytes, int64_t store_ns) noexcept nogil:
        cdef int bucket = 0
        while bucket < self.bucket_count and store_ns > self.bounds_ns[bucket]:
            bucket += 1
        pthread_mutex_lock(&self.lock)
        self.buckets[bucket] += 1
        self.bytes_stored += dataset_bytes
        self.total_ns += store_ns
        sender.instances += 1
        sender.bytes_stored += dataset_bytes
        pthread_mutex_unlock(&self.lock)

    def add(self, Sender sender not None, size_t dataset_bytes, double store_s):
        self.count(sender, dataset_bytes, <int64_t>(store_s * 1e9))

    @cython.linetrace(False)
    def snapshot(self):
        cdef uint64_t buckets[BUCKETS_CEILING + 1]
        cdef uint64_t dataset_bytes
        cdef int64_t total_ns
        with nogil:
            pthread_mutex_lock(&self.lock)
            buckets = self.buckets
            dataset_bytes = self.bytes_stored
            total_ns = self.total_ns
            pthread_mutex_unlock(&self.lock)
        return [buckets[i] for i in range(self.bucket_count + 1)], dataset_bytes, total_ns / 1e9
