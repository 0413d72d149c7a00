# The head of a data set: see head.pyi for the contract.

cdef enum:
    HEAD_DEPTH = 32            # deepest nesting that is walked
    HEAD_VALUES = 5
    HEAD_VALUE_BYTES = 128     # of a value that is longer, only the first are kept

cdef enum head_state:
    HEAD_SCANNING, HEAD_COMPLETE, HEAD_INCOMPLETE, HEAD_MALFORMED

cdef struct head_value_t:
    bint present
    unsigned short length_bytes
    char data[HEAD_VALUE_BYTES]

# Where a scan stands. A plain value: holds no memory and may be copied.
cdef struct head_t:
    head_state state
    bint explicit_vr
    bint little_endian
    size_t position            # offset in the data set of the next element that is not read
    int depth                  # open sequences and items of undefined length
    unsigned char levels[HEAD_DEPTH]
    head_value_t values[HEAD_VALUES]

# Copies `count_bytes` from `offset` of the data set, which has them; borrows `source` for the call.
ctypedef void (*head_peek)(void *source, size_t offset, unsigned char *target, size_t count_bytes) noexcept nogil

cdef void head_start(head_t *head, bint explicit_vr, bint little_endian) noexcept nogil
# Goes on as far as `available_bytes` of data set allow; `last` says that no more will come.
cdef void head_advance(head_t *head, head_peek peek, void *source, size_t available_bytes, bint last) noexcept nogil

cdef class Head:
    cdef readonly object sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid, study_date
    cdef readonly str state
    cdef readonly Py_ssize_t error_offset

cdef Head head_result(const head_t *head)
cdef Head scan_head_buffer(data, bint explicit_vr, bint little_endian, bint last)
