# cython: language_level=3
"""The head of a data set: the few elements that identify an instance (PS3.5 section 7).

Enters: data set bytes, as far as they have arrived. Leaves: five values. Never: a parse beyond (0020,000E), a copy of what it skips.
"""

from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy, memset

cdef enum:
    # What an open level of undefined length is. The flag says that what it holds is implicit VR little
    # endian whatever the data set is (PS3.5 section 6.2.2, note on UN).
    LEVEL_SEQUENCE = 1
    LEVEL_ITEM = 2
    LEVEL_IMPLICIT = 4

cdef uint32_t UNDEFINED_LENGTH = 0xFFFFFFFF
cdef uint32_t LAST_TAG = 0x0020000E
cdef uint32_t ITEM = 0xFFFEE000
cdef uint32_t ITEM_DELIMITATION = 0xFFFEE00D
cdef uint32_t SEQUENCE_DELIMITATION = 0xFFFEE0DD


cdef struct element_t:
    uint32_t tag
    uint32_t length
    size_t header_bytes
    bint implicit_content      # undefined length whose content is implicit VR: UN
    bint may_be_undefined


cdef inline uint16_t _uint16(const unsigned char *data, bint little_endian) noexcept nogil:
    if little_endian:
        return <uint16_t>(data[0] | data[1] << 8)
    return <uint16_t>(data[0] << 8 | data[1])


cdef inline uint32_t _uint32(const unsigned char *data, bint little_endian) noexcept nogil:
    if little_endian:
        return <uint32_t>_uint16(data, True) | <uint32_t>_uint16(data + 2, True) << 16
    return <uint32_t>_uint16(data, False) << 16 | <uint32_t>_uint16(data + 2, False)


cdef inline bint _is_vr(const unsigned char *vr, const char *name) noexcept nogil:
    return vr[0] == <unsigned char>name[0] and vr[1] == <unsigned char>name[1]


cdef bint _has_short_length(const unsigned char *vr) noexcept nogil:
    # PS3.5 table 7.1-2. Any VR that is not named there has the long form (section 7.1.2, for VRs to come).
    cdef const char *names = "AEASATCSDADSDTFDFLISLOLTPNSHSLSSSTTMUIULUS"
    cdef int i
    for i in range(0, 42, 2):
        if _is_vr(vr, names + i):
            return True
    return False


cdef int _wanted(uint32_t tag) noexcept nogil:
    if tag == 0x00080016:
        return 0
    if tag == 0x00080018:
        return 1
    if tag == 0x0020000D:
        return 2
    if tag == 0x0020000E:
        return 3
    if tag == 0x00080020:
        return 4
    return -1


cdef void head_start(head_t *head, bint explicit_vr, bint little_endian) noexcept nogil:
    memset(head, 0, sizeof(head_t))
    head.explicit_vr = explicit_vr
    head.little_endian = little_endian


# What _read_element says.
cdef enum:
    ELEMENT_OK, ELEMENT_SHORT, ELEMENT_BAD


cdef int _read_element(
    head_t *head, head_peek peek, void *source, size_t available_bytes, element_t *element
) noexcept nogil:
    cdef unsigned char data[12]
    cdef size_t left = available_bytes - head.position
    cdef bint implicit = not head.explicit_vr
    cdef bint little_endian = head.little_endian
    if head.depth and head.levels[head.depth - 1] & LEVEL_IMPLICIT:
        implicit = True
        little_endian = True
    if left < 8:
        return ELEMENT_SHORT
    peek(source, head.position, data, 8)
    element.tag = <uint32_t>_uint16(data, little_endian) << 16 | _uint16(data + 2, little_endian)
    element.header_bytes = 8
    element.implicit_content = False
    element.may_be_undefined = True
    if element.tag >> 16 == 0xFFFE or implicit:
        element.length = _uint32(data + 4, little_endian)
        return ELEMENT_OK
    if not (c"A" <= data[4] <= c"Z" and c"A" <= data[5] <= c"Z"):
        return ELEMENT_BAD
    if _has_short_length(data + 4):
        element.length = _uint16(data + 6, little_endian)
        element.may_be_undefined = False
        return ELEMENT_OK
    if left < 12:
        return ELEMENT_SHORT
    peek(source, head.position, data, 12)
    element.length = _uint32(data + 8, little_endian)
    element.header_bytes = 12
    element.implicit_content = _is_vr(data + 4, "UN")
    element.may_be_undefined = (
        element.implicit_content or _is_vr(data + 4, "SQ") or _is_vr(data + 4, "OB") or _is_vr(data + 4, "OW")
    )
    return ELEMENT_OK


cdef bint _open_level(head_t *head, int level, bint implicit_content) noexcept nogil:
    if head.depth == HEAD_DEPTH:
        return False
    if implicit_content or (head.depth and head.levels[head.depth - 1] & LEVEL_IMPLICIT):
        level |= LEVEL_IMPLICIT
    head.levels[head.depth] = <unsigned char>level
    head.depth += 1
    return True


cdef bint _walk_nested(head_t *head, const element_t *element) noexcept nogil:
    # Inside a sequence or item of undefined length. False where the element does not belong there.
    cdef int level = head.levels[head.depth - 1] & ~LEVEL_IMPLICIT
    if level == LEVEL_SEQUENCE:
        if element.tag == SEQUENCE_DELIMITATION:
            head.depth -= 1
        elif element.tag != ITEM:
            return False
        elif element.length == UNDEFINED_LENGTH:
            return _advance_into(head, element, LEVEL_ITEM, False)
        else:
            head.position += element.length
        head.position += element.header_bytes
        return True
    if element.tag == ITEM_DELIMITATION:
        head.depth -= 1
        head.position += element.header_bytes
        return True
    if element.tag >> 16 == 0xFFFE:
        return False
    return _skip(head, element)


cdef bint _advance_into(head_t *head, const element_t *element, int level, bint implicit_content) noexcept nogil:
    if not _open_level(head, level, implicit_content):
        return False
    head.position += element.header_bytes
    return True


cdef bint _skip(head_t *head, const element_t *element) noexcept nogil:
    if element.length == UNDEFINED_LENGTH:
        return element.may_be_undefined and _advance_into(head, element, LEVEL_SEQUENCE, element.implicit_content)
    head.position += element.header_bytes + element.length
    return True


cdef void head_advance(head_t *head, head_peek peek, void *source, size_t available_bytes, bint last) noexcept nogil:
    cdef element_t element
    cdef head_value_t *value
    cdef size_t kept_bytes
    cdef int read, wanted
    while head.state == HEAD_SCANNING:
        if head.position >= available_bytes:
            if last:
                head.state = (
                    HEAD_COMPLETE if head.position == available_bytes and head.depth == 0 else HEAD_INCOMPLETE
                )
            return
        read = _read_element(head, peek, source, available_bytes, &element)
        if read == ELEMENT_SHORT:
            if last:
                head.state = HEAD_INCOMPLETE
            return
        if read == ELEMENT_BAD:
            head.state = HEAD_MALFORMED
            return
        if head.depth:
            if not _walk_nested(head, &element):
                head.state = HEAD_MALFORMED
            continue
        if element.tag >> 16 == 0xFFFE:
            head.state = HEAD_MALFORMED
            return
        if element.tag > LAST_TAG:
            head.state = HEAD_COMPLETE
            return
        wanted = _wanted(element.tag)
        if wanted < 0:
            if not _skip(head, &element):
                head.state = HEAD_MALFORMED
            continue
        if element.length == UNDEFINED_LENGTH:
            head.state = HEAD_MALFORMED
            return
        kept_bytes = min(<size_t>element.length, <size_t>HEAD_VALUE_BYTES)
        if available_bytes - head.position < element.header_bytes + kept_bytes:
            if last:
                head.state = HEAD_INCOMPLETE
            return
        value = &head.values[wanted]
        value.present = True
        value.length_bytes = <unsigned short>kept_bytes
        peek(source, head.position + element.header_bytes, <unsigned char *>value.data, kept_bytes)
        head.position += element.header_bytes + element.length
        if element.tag == LAST_TAG:
            head.state = HEAD_COMPLETE


cdef object _value_text(const head_value_t *value):
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t end = value.length_bytes
    if not value.present:
        return None
    while end > 0 and (value.data[end - 1] == 0 or value.data[end - 1] == c" "):
        end -= 1
    return value.data[start:end].decode("latin-1")


cdef class Head:
    """What identifies an instance. See head.pyi."""


cdef Head head_result(const head_t *head):
    cdef Head result = Head.__new__(Head)
    result.sop_class_uid = _value_text(&head.values[0])
    result.sop_instance_uid = _value_text(&head.values[1])
    result.study_instance_uid = _value_text(&head.values[2])
    result.series_instance_uid = _value_text(&head.values[3])
    result.study_date = _value_text(&head.values[4])
    result.error_offset = -1
    if head.state == HEAD_COMPLETE:
        result.state = "complete"
    elif head.state == HEAD_MALFORMED:
        result.state = "malformed"
        result.error_offset = <Py_ssize_t>head.position
    else:
        result.state = "incomplete"
        result.error_offset = <Py_ssize_t>head.position
    return result


cdef void _peek_buffer(void *source, size_t offset, unsigned char *target, size_t count_bytes) noexcept nogil:
    memcpy(target, <const unsigned char *>source + offset, count_bytes)


cdef Head scan_head_buffer(data, bint explicit_vr, bint little_endian, bint last):
    cdef const unsigned char[::1] view = memoryview(data).cast("B")
    cdef head_t head
    head_start(&head, explicit_vr, little_endian)
    head_advance(&head, _peek_buffer, <void *>&view[0] if view.shape[0] else NULL, <size_t>view.shape[0], last)
    return head_result(&head)


def scan_head(data, *, bint explicit_vr, bint little_endian, bint last=True):
    return scan_head_buffer(data, explicit_vr, little_endian, last)
