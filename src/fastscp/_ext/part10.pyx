# cython: language_level=3
"""One instance: its Part-10 file in memory, from the preamble to the last byte received.

Enters: the command's UIDs, then data set bytes. Leaves: segments that form a Part-10 file (PS3.10 section 7).
Never: a copy of the data set, a parse beyond its head.
"""

import zlib

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.errno cimport EINTR, errno
from libc.string cimport memcmp, memcpy

from fastscp._ext.file_meta cimport UID_BYTES
from fastscp._ext.head cimport (
    HEAD_COMPLETE,
    HEAD_SCANNING,
    head_advance,
    head_result,
    head_t,
    head_value_t,
    scan_head_buffer,
)
from fastscp._ext.memory cimport SEGMENT_CLASSES, SMALLEST_SEGMENT_BYTES

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int fd, const iovec *vectors, int count)

cdef enum:
    WRITE_VECTORS = 64
    INFLATE_PIECE_BYTES = 1024

_REFUSALS = (None, "no_data_set", "too_large", "no_memory")


@cython.final
@cython.no_gc
cdef class _SegmentView:
    # Exports one stretch of one segment. Holds the instance, and counts as a view of it for as long as it is exported.
    cdef Instance instance
    cdef unsigned char *data
    cdef Py_ssize_t length_bytes

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.length_bytes, 1, flags)
        self.instance.export_count += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.instance.export_count -= 1


# What _peek_segments reads from; borrowed for one scan.
cdef struct peek_source_t:
    segment_t *first
    size_t data_set_offset     # of the data set's first byte from that of `first`; wraps where that has left memory


cdef void _peek_segments(void *source, size_t offset, unsigned char *target, size_t count_bytes) noexcept nogil:
    cdef segment_t *segment = (<peek_source_t *>source).first
    cdef size_t at = offset + (<peek_source_t *>source).data_set_offset
    cdef size_t piece_bytes
    while count_bytes and at >= segment.length_bytes:
        at -= segment.length_bytes
        segment = segment.next
    while count_bytes:
        piece_bytes = min(count_bytes, segment.length_bytes - at)
        memcpy(target, segment.data + at, piece_bytes)
        target += piece_bytes
        count_bytes -= piece_bytes
        segment = segment.next
        at = 0


cdef int _conformant_bytes(const head_value_t *value) noexcept nogil:
    # Length of the UID without its padding where it has the form of PS3.5 section 9.1, 0 otherwise.
    cdef int length_bytes = value.length_bytes
    cdef int i
    cdef char before = c"."
    cdef char byte
    while length_bytes and (value.data[length_bytes - 1] == 0 or value.data[length_bytes - 1] == c" "):
        length_bytes -= 1
    if not value.present or length_bytes > UID_BYTES:
        return 0
    for i in range(length_bytes):
        byte = value.data[i]
        if byte == c".":
            if before == c".":
                return 0
        elif not c"0" <= byte <= c"9":
            return 0
        elif byte == c"0" and before == c"." and i + 1 < length_bytes and value.data[i + 1] != c".":
            return 0
        before = byte
    return 0 if before == c"." else length_bytes


cdef bint _equal(const text_t *text, const head_value_t *value) noexcept nogil:
    # Whether the value is the text, padding aside; a padded value is never shorter than the text.
    cdef int i
    if not (text.present and text.length_bytes and value.present) or value.length_bytes < text.length_bytes:
        return False
    for i in range(text.length_bytes, value.length_bytes):
        if value.data[i] != 0 and value.data[i] != c" ":
            return False
    return memcmp(text.data, value.data, text.length_bytes) == 0


# No cycle can go through it, and the collector must not clear `pool` before __dealloc__ gives the memory back to it.
@cython.final
@cython.no_gc
cdef class Instance:
    """One instance being received or received. See part10.pyi."""

    def __cinit__(self):
        self.spill_fd = -1

    def __dealloc__(self):
        self.free_segments()

    cdef segment_t *grow(self, size_t pdu_bytes) noexcept nogil:
        # Doubling from the smallest: a small instance takes little of the budget, a large one few segments.
        # Once it is spilled, small enough that what is written is still in the processor's cache.
        cdef segment_t *segment
        while self.next_class < SEGMENT_CLASSES - 1 and <size_t>SMALLEST_SEGMENT_BYTES << self.next_class < PDUS_IN_A_SEGMENT * pdu_bytes:
            self.next_class += 1
        while self.next_class and self.dropped_bytes and <size_t>SMALLEST_SEGMENT_BYTES << self.next_class > self.spill_interval // 4:
            self.next_class -= 1
        segment = self.pool.acquire(self.next_class, <void *>self)
        if segment is NULL:
            return NULL
        self.next_class = min(self.next_class + 1, SEGMENT_CLASSES - 1)
        if self.last is NULL:
            self.first = segment
            self.filling = segment
        else:
            self.last.next = segment
        self.last = segment
        return segment

    cdef int places(
        self, iovec *places, int most, size_t wanted_bytes, size_t pdu_bytes, size_t *covered_bytes
    ) noexcept nogil:
        cdef segment_t *segment = self.filling
        cdef size_t piece_bytes
        cdef int count = 0
        covered_bytes[0] = 0
        if segment is not NULL and segment.length_bytes == segment.capacity_bytes:
            segment = segment.next
        while covered_bytes[0] < wanted_bytes and count < most:
            if segment is NULL:
                segment = self.grow(pdu_bytes)
                if segment is NULL:
                    break
            piece_bytes = min(wanted_bytes - covered_bytes[0], segment.capacity_bytes - segment.length_bytes)
            places[count].iov_base = segment.data + segment.length_bytes
            places[count].iov_len = piece_bytes
            covered_bytes[0] += piece_bytes
            count += 1
            segment = segment.next
        return count

    cdef void filled(self, size_t count_bytes) noexcept nogil:
        cdef segment_t *segment = self.filling
        cdef size_t piece_bytes
        while count_bytes:
            piece_bytes = min(count_bytes, segment.capacity_bytes - segment.length_bytes)
            segment.length_bytes += piece_bytes
            count_bytes -= piece_bytes
            if count_bytes:
                segment = segment.next
        self.filling = segment

    cdef size_t held_bytes(self) noexcept nogil:
        return self.meta_bytes + self.received_bytes - self.dropped_bytes

    cdef void scan(self, bint last) noexcept nogil:
        cdef peek_source_t source
        # Where nothing is in memory, the scan may still come to its end, but not go on.
        if self.syntax.deflated or (self.first is NULL and self.head_scan.position < self.received_bytes):
            return
        source.first = self.first
        source.data_set_offset = self.meta_bytes - self.dropped_bytes
        head_advance(&self.head_scan, _peek_segments, &source, self.received_bytes, last)

    cdef void free_segments(self) noexcept nogil:
        if self.first is not NULL:
            self.pool.give_back(self.first, NULL)
        self.first = NULL
        self.last = NULL
        self.filling = NULL
        if self.favoured:
            self.favoured = not self.pool.unfavour(<void *>self, True)

    cdef void reset(self) noexcept nogil:
        # What is not named here is set when the next command is complete.
        self.free_segments()
        self.why_refused = REFUSED_NOT
        self.is_complete = False
        self.asked_about = False
        self.store_error = 0
        self.spill_fd = -1
        self.meta_bytes = 0
        self.received_bytes = 0
        self.dropped_bytes = 0
        self.next_class = 0

    cdef bint ordinary(self, name_t *name) noexcept nogil:
        cdef head_t *head = &self.head_scan
        if head.state != HEAD_COMPLETE or self.why_refused != REFUSED_NOT or not self.is_complete:
            return False
        if not (_equal(&self.sop_class, &head.values[0]) and _equal(&self.sop_instance, &head.values[1])):
            return False
        name.study = head.values[2].data
        name.series = head.values[3].data
        name.sop_instance = head.values[1].data
        name.study_bytes = _conformant_bytes(&head.values[2])
        name.series_bytes = _conformant_bytes(&head.values[3])
        name.sop_instance_bytes = _conformant_bytes(&head.values[1])
        return name.study_bytes and name.series_bytes and name.sop_instance_bytes

    cdef size_t spillable(self) noexcept nogil:
        # Full segments before the position of the head's scan.
        cdef segment_t *segment = self.first
        cdef size_t count_bytes = 0
        cdef size_t needed_from = self.head_scan.position + self.meta_bytes - self.dropped_bytes
        if self.syntax.deflated:
            needed_from = 0 if self.inflated is None else self.held_bytes()
        elif self.head_scan.state != HEAD_SCANNING:
            needed_from = self.held_bytes()
        while (
            segment is not NULL
            and (segment.length_bytes == segment.capacity_bytes or self.is_complete)
            and count_bytes + segment.length_bytes <= needed_from
        ):
            count_bytes += segment.length_bytes
            segment = segment.next
        return count_bytes

    cdef int write_front(self, int fd, size_t count_bytes) noexcept nogil:
        cdef iovec vectors[WRITE_VECTORS]
        cdef segment_t *segment = self.first
        cdef segment_t *ahead
        cdef size_t at = 0
        cdef size_t batch_bytes
        cdef ssize_t written
        cdef int count
        while count_bytes:
            count = 0
            batch_bytes = 0
            ahead = segment
            while ahead is not NULL and count < WRITE_VECTORS and batch_bytes < count_bytes:
                vectors[count].iov_base = ahead.data + (at if count == 0 else 0)
                vectors[count].iov_len = min(
                    ahead.length_bytes - (at if count == 0 else 0), count_bytes - batch_bytes
                )
                batch_bytes += vectors[count].iov_len
                count += 1
                ahead = ahead.next
            written = writev(fd, vectors, count)
            if written < 0:
                if errno == EINTR:
                    continue
                return errno
            count_bytes -= <size_t>written
            at += <size_t>written
            while segment is not NULL and at >= segment.length_bytes:
                at -= segment.length_bytes
                segment = segment.next
        return 0

    cdef void drop_front(self, size_t count_bytes) noexcept nogil:
        cdef segment_t *dropped = self.first
        self.dropped_bytes += count_bytes
        while count_bytes:
            count_bytes -= self.first.length_bytes
            if self.first is self.filling:
                self.filling = self.first.next
            if self.first is self.last:
                self.last = NULL
            self.first = self.first.next
        if dropped is not self.first:
            self.pool.give_back(dropped, self.first)
        # Others have waited meanwhile; it may ask again.
        if self.favoured:
            self.favoured = not self.pool.unfavour(<void *>self, False)
        self.set_spill_mark()

    cdef bint spill_unasked(self) noexcept nogil:
        cdef size_t count_bytes
        if self.spill_fd < 0 or self.export_count or self.store_error:
            return False
        self.scan(False)
        count_bytes = self.spillable()
        self.store_error = self.write_front(self.spill_fd, count_bytes)
        if self.store_error:
            return False  # Nobody knows how much of it is in the file.
        self.drop_front(count_bytes)
        return True

    cdef void set_spill_mark(self) noexcept nogil:
        cdef size_t held = self.held_bytes()
        self.spill_mark = self.spill_interval if held < self.spill_interval else held + self.spill_interval

    def _check_usable(self):
        if self.released:
            raise ValueError("the instance was released")

    def _check_no_views(self):
        if self.export_count:
            raise BufferError(f"{self.export_count} views of the instance are alive")

    @property
    def context_id(self):
        return self.context

    @property
    def message_id(self):
        return self.message

    @property
    def sop_class_uid(self):
        return self.sop_class.data[:self.sop_class.length_bytes].decode("latin-1") if self.sop_class.present else None

    @property
    def sop_instance_uid(self):
        if not self.sop_instance.present:
            return None
        return self.sop_instance.data[:self.sop_instance.length_bytes].decode("latin-1")

    @property
    def transfer_syntax_uid(self):
        return self.syntax.uid.data[:self.syntax.uid.length_bytes].decode("ascii")

    @property
    def head(self):
        if self.inflated is not None:
            return self.inflated
        return head_result(&self.head_scan)

    def ordinary_name(self):
        cdef name_t name
        if not self.ordinary(&name):
            return None
        return (
            PyUnicode_DecodeASCII(name.study, name.study_bytes, NULL),
            PyUnicode_DecodeASCII(name.series, name.series_bytes, NULL),
            PyUnicode_DecodeASCII(name.sop_instance, name.sop_instance_bytes, NULL),
        )

    @property
    def deflated(self):
        return self.syntax.deflated

    @property
    def dataset_bytes(self):
        return self.received_bytes

    @property
    def file_meta_bytes(self):
        return self.meta_bytes

    @property
    def file_bytes(self):
        return self.meta_bytes + self.received_bytes

    @property
    def complete(self):
        return self.is_complete

    @property
    def refusal(self):
        return _REFUSALS[<int>self.why_refused]

    @property
    def spilled_bytes(self):
        return self.dropped_bytes

    @property
    def spill_at_bytes(self):
        return self.spill_interval

    @spill_at_bytes.setter
    def spill_at_bytes(self, value):
        self.spill_interval = value
        self.set_spill_mark()

    cdef list _views(self, size_t count_bytes):
        cdef segment_t *segment = self.first
        cdef _SegmentView view
        cdef list views = []
        self._check_usable()
        while segment is not NULL and count_bytes:
            view = _SegmentView.__new__(_SegmentView)
            view.instance = self
            view.data = segment.data
            view.length_bytes = <Py_ssize_t>segment.length_bytes
            if segment.length_bytes:
                views.append(memoryview(view))
            count_bytes -= segment.length_bytes
            segment = segment.next
        return views

    def segments(self):
        return self._views(self.held_bytes() if self.first is not NULL else 0)

    def spillable_bytes(self):
        self._check_usable()
        self.scan(False)
        return self.spillable()

    def spillable_segments(self):
        return self._views(self.spillable_bytes())

    def drop_spillable(self, count_bytes):
        self._check_no_views()
        if count_bytes != self.spillable_bytes():
            raise ValueError("drop_spillable takes exactly what spillable_bytes said")
        self.drop_front(count_bytes)

    def write_spillable(self, int fd):
        cdef size_t count_bytes = self.spillable_bytes()
        cdef int error = self.store_error
        self._check_no_views()
        if error == 0:
            # Counted as a view, so that no other thread can take the memory away meanwhile.
            self.export_count += 1
            with nogil:
                error = self.write_front(fd, count_bytes)
            self.export_count -= 1
        if error:
            raise OSError(error, "cannot write the instance")
        self.drop_front(count_bytes)
        return count_bytes

    def spill_to(self, int fd):
        self._check_usable()
        self.spill_fd = fd

    def inflated_head(self, limit_bytes):
        cdef Head head
        self._check_usable()
        if not self.syntax.deflated:
            raise ValueError("the data set is not deflated")
        if limit_bytes < 1:
            raise ValueError("limit_bytes must be positive")  # to zlib, 0 is no limit
        if self.inflated is not None:
            return self.inflated
        if self.dropped_bytes:
            raise ValueError("the head has left memory")
        inflater = zlib.decompressobj(wbits=-15)
        inflated = bytearray()
        skip_bytes = self.meta_bytes
        try:
            for segment in self.segments():
                # In pieces: an error takes with it what its piece was inflated to.
                for start in range(skip_bytes, len(segment), INFLATE_PIECE_BYTES):
                    piece = segment[start : min(start + INFLATE_PIECE_BYTES, len(segment))]
                    inflated += inflater.decompress(piece, limit_bytes - len(inflated))
                    if len(inflated) >= limit_bytes or inflater.eof:
                        break
                skip_bytes = 0
                if len(inflated) >= limit_bytes or inflater.eof:
                    break
        except zlib.error:
            pass  # What was inflated up to here is what there is: the scan says whether that is enough.
        head = scan_head_buffer(inflated, True, True, inflater.eof)
        if head.state == "complete" or head.state == "malformed":
            self.inflated = head
        return head

    def use_reserve(self):
        if self.favoured or not self.pool.favour(<void *>self):
            return False
        self.favoured = True
        return True

    def release(self):
        if self.lent:
            raise ValueError("the instance is still being received: it belongs to its reader")
        self._check_no_views()
        self.free_segments()
        self.released = True
