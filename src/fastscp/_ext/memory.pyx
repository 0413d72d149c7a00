# cython: language_level=3
"""The memory that instances are received into.

Enters: requests for segments. Leaves: memory, within the budget. Never: decides what to do when there is none.
"""

cimport cython
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastscp._ext.mutex cimport fastscp_mutex_init, pthread_mutex_destroy, pthread_mutex_lock, pthread_mutex_unlock

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_REALTIME
    int clock_gettime(int clock, timespec *now)

cdef extern from "<pthread.h>" nogil:
    int pthread_cond_init(pthread_cond_t *condition, void *attributes)
    int pthread_cond_destroy(pthread_cond_t *condition)
    int pthread_cond_broadcast(pthread_cond_t *condition)
    int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const timespec *until)

cdef extern from *:
    """
    #ifdef __linux__
    #include <sched.h>
    static inline int fastscp_processor(void) { int processor = sched_getcpu(); return processor < 0 ? 0 : processor; }
    #else
    static inline int fastscp_processor(void) { return 0; }
    #endif
    """
    int fastscp_processor() nogil

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)

cdef size_t LARGEST_SEGMENT_BYTES = <size_t>SMALLEST_SEGMENT_BYTES << (SEGMENT_CLASSES - 1)

SEGMENT_SIZES_BYTES = tuple(SMALLEST_SEGMENT_BYTES << size_class for size_class in range(SEGMENT_CLASSES))


cdef segment_t *_map_segment(int size_class) noexcept nogil:
    # mmap and not malloc: a freed segment leaves the process at once, and the budget is what the process really holds.
    cdef segment_t *segment = <segment_t *>malloc(sizeof(segment_t))
    if segment is NULL:
        return NULL
    segment.capacity_bytes = <size_t>SMALLEST_SEGMENT_BYTES << size_class
    segment.data = <unsigned char *>mmap(
        NULL, segment.capacity_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    )
    if segment.data == <unsigned char *>MAP_FAILED:
        free(segment)
        return NULL
    segment.size_class = size_class
    return segment


cdef void _unmap_segment(segment_t *segment) noexcept nogil:
    munmap(segment.data, segment.capacity_bytes)
    free(segment)


# Line tracing (the coverage build) would want the interpreter lock while the pool's is held: not in what holds that.
@cython.final
cdef class BufferPool:
    """A budget of memory, handed out in segments and reused warm. See memory.pyi."""

    def __cinit__(self, limit_bytes, keep_bytes=33554432, reserve_bytes=0):
        if limit_bytes < LARGEST_SEGMENT_BYTES:
            raise ValueError(f"limit_bytes must be at least {LARGEST_SEGMENT_BYTES}")
        if not 0 <= reserve_bytes <= limit_bytes - LARGEST_SEGMENT_BYTES:
            raise ValueError(f"reserve_bytes must leave {LARGEST_SEGMENT_BYTES} of limit_bytes")
        if keep_bytes < 0:
            raise ValueError("keep_bytes must not be negative")
        self.limit = limit_bytes
        self.reserve = reserve_bytes
        self.keep = keep_bytes
        fastscp_mutex_init(&self.lock)
        pthread_cond_init(&self.freed, NULL)
        self.initialised = True

    def __dealloc__(self):
        cdef int size_class
        cdef segment_t *segment
        if not self.initialised:
            return
        for size_class in range(SEGMENT_CLASSES):
            segment = self._take_free(size_class, 0)
            while segment is not NULL:
                _unmap_segment(segment)
                segment = self._take_free(size_class, 0)
        pthread_cond_destroy(&self.freed)
        pthread_mutex_destroy(&self.lock)

    @cython.linetrace(False)
    cdef segment_t *_take_free(self, int size_class, int processor) noexcept nogil:
        # What another processor wrote last is in its cache, and costs more to write here
        # (benchmarks: work "ct-null-8", CPU 52 us for each instance instead of 60).
        cdef segment_t **free_list
        cdef segment_t *segment
        cdef int i
        for i in range(FREE_LISTS):
            free_list = &self.free_lists[size_class][(processor + i) % FREE_LISTS]
            segment = free_list[0]
            if segment is not NULL:
                free_list[0] = segment.next
                self.free_total -= segment.capacity_bytes
                return segment
        return NULL

    @cython.linetrace(False)
    cdef segment_t *acquire(self, int size_class, const void *holder) noexcept nogil:
        cdef size_t size_bytes = <size_t>SMALLEST_SEGMENT_BYTES << size_class
        cdef segment_t *segment
        cdef int processor = fastscp_processor()
        pthread_mutex_lock(&self.lock)
        if self.in_use + size_bytes > (self.limit if holder is self.favoured else self.limit - self.reserve):
            pthread_mutex_unlock(&self.lock)
            return NULL
        self.in_use += size_bytes
        segment = self._take_free(size_class, processor)
        pthread_mutex_unlock(&self.lock)
        if segment is NULL:
            segment = _map_segment(size_class)
            if segment is NULL:
                pthread_mutex_lock(&self.lock)
                self.in_use -= size_bytes
                pthread_cond_broadcast(&self.freed)
                pthread_mutex_unlock(&self.lock)
                return NULL
        segment.next = NULL
        segment.length_bytes = 0
        return segment

    @cython.linetrace(False)
    cdef void give_back(self, segment_t *segment, const segment_t *until) noexcept nogil:
        # All under one lock: each time it is taken, somebody may be stopped who holds it.
        cdef int processor = fastscp_processor() % FREE_LISTS
        cdef segment_t **free_list
        cdef segment_t *following
        cdef segment_t *to_unmap = NULL
        pthread_mutex_lock(&self.lock)
        while segment is not until:
            following = segment.next
            self.in_use -= segment.capacity_bytes
            if self.free_total + segment.capacity_bytes <= self.keep:
                free_list = &self.free_lists[segment.size_class][processor]
                segment.next = free_list[0]
                free_list[0] = segment
                self.free_total += segment.capacity_bytes
            else:
                segment.next = to_unmap
                to_unmap = segment
            segment = following
        pthread_cond_broadcast(&self.freed)
        pthread_mutex_unlock(&self.lock)
        while to_unmap is not NULL:
            following = to_unmap.next
            _unmap_segment(to_unmap)
            to_unmap = following

    @cython.linetrace(False)
    cdef bint favour(self, const void *holder) noexcept nogil:
        cdef bint favoured
        pthread_mutex_lock(&self.lock)
        favoured = self.reserve > 0 and self.favoured is NULL
        if favoured:
            self.favoured = holder
        pthread_mutex_unlock(&self.lock)
        return favoured

    @cython.linetrace(False)
    cdef bint unfavour(self, const void *holder, bint holds_nothing) noexcept nogil:
        cdef bint ended
        pthread_mutex_lock(&self.lock)
        ended = self.favoured is holder and (holds_nothing or self.in_use <= self.limit - self.reserve)
        if ended:
            self.favoured = NULL
            pthread_cond_broadcast(&self.freed)
        pthread_mutex_unlock(&self.lock)
        return ended

    @property
    def limit_bytes(self):
        return self.limit

    @property
    def in_use_bytes(self):
        return self.in_use

    @property
    def free_bytes(self):
        return self.free_total

    @cython.linetrace(False)
    cdef bint _available(self) noexcept nogil:
        return self.in_use + LARGEST_SEGMENT_BYTES <= self.limit - self.reserve or (self.reserve > 0 and self.favoured is NULL)

    @cython.linetrace(False)
    def wait_available(self, double timeout_s):
        cdef timespec until
        cdef int64_t nanoseconds
        cdef bint available
        cdef int failed = 0
        # A year is for ever, and keeps the arithmetic below within its types.
        timeout_s = min(max(timeout_s, 0.0), 31536000.0)
        with nogil:
            clock_gettime(CLOCK_REALTIME, &until)
            nanoseconds = until.tv_nsec + <int64_t>(timeout_s * 1e9)
            until.tv_sec += nanoseconds // 1000000000
            until.tv_nsec = nanoseconds % 1000000000
            pthread_mutex_lock(&self.lock)
            while not self._available() and failed == 0:
                failed = pthread_cond_timedwait(&self.freed, &self.lock, &until)
            available = self._available()
            pthread_mutex_unlock(&self.lock)
        return available
