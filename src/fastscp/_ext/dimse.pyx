# cython: language_level=3
"""The few command elements that C-STORE needs (PS3.7 sections 9.3.1 and 6.3).

Enters: a command set. Leaves: its fields, or an encoded response. Never: a decision about either.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from fastscp._ext.file_meta cimport UID_BYTES, text_set, text_t

from fastscp.errors import ProtocolError

COMMAND_SET_CEILING_BYTES = COMMAND_CEILING_BYTES

cdef enum:
    NO_DATA_SET = 0x0101
    C_STORE_RSP = 0x8001
    COMMAND_LAST = 0x03        # message control header, PS3.8 annex E.2


cdef inline uint32_t _get16(const unsigned char *data) noexcept nogil:
    return <uint32_t>data[0] | <uint32_t>data[1] << 8


cdef inline uint32_t _get32(const unsigned char *data) noexcept nogil:
    return _get16(data) | _get16(data + 2) << 16


cdef void _get_text(text_t *text, const unsigned char *data, size_t length_bytes) noexcept nogil:
    # Trailing NULs and spaces are padding, whichever of them the sender used.
    while length_bytes and (data[length_bytes - 1] == 0 or data[length_bytes - 1] == c" "):
        length_bytes -= 1
    text.present = length_bytes <= UID_BYTES
    text.length_bytes = <int>length_bytes if text.present else 0
    memcpy(text.data, data, text.length_bytes)


cdef bint command_decode(command_t *command, const unsigned char *data, size_t length_bytes) noexcept nogil:
    cdef size_t at = 0
    cdef uint32_t tag, value_bytes
    memset(command, 0, sizeof(command_t))
    while at < length_bytes:
        if length_bytes - at < 8:
            return False
        tag = _get16(data + at) << 16 | _get16(data + at + 2)
        value_bytes = _get32(data + at + 4)
        at += 8
        if value_bytes > length_bytes - at:
            return False
        if tag == 0x00000002:
            _get_text(&command.sop_class, data + at, value_bytes)
        elif tag == 0x00001000:
            _get_text(&command.sop_instance, data + at, value_bytes)
        elif value_bytes == 2:
            if tag == 0x00000100:
                command.has_field = True
                command.field = <unsigned short>_get16(data + at)
            elif tag == 0x00000110:
                command.has_message = True
                command.message = <unsigned short>_get16(data + at)
            elif tag == 0x00000800:
                command.has_data_set = _get16(data + at) != NO_DATA_SET
        at += value_bytes
    return True


cdef inline unsigned char *_put16(unsigned char *at, uint32_t value) noexcept nogil:
    at[0] = <unsigned char>(value & 0xFF)
    at[1] = <unsigned char>(value >> 8 & 0xFF)
    return at + 2


cdef inline unsigned char *_put32(unsigned char *at, uint32_t value) noexcept nogil:
    return _put16(_put16(at, value & 0xFFFF), value >> 16)


cdef inline unsigned char *_put_header(unsigned char *at, uint32_t element, uint32_t length_bytes) noexcept nogil:
    return _put32(_put16(_put16(at, 0), element), length_bytes)


cdef inline unsigned char *_put_us(unsigned char *at, uint32_t element, uint32_t value) noexcept nogil:
    return _put16(_put_header(at, element, 2), value)


cdef unsigned char *_put_padded(
    unsigned char *at, uint32_t element, const char *value, size_t length_bytes, unsigned char padding
) noexcept nogil:
    cdef size_t even_bytes = length_bytes + (length_bytes & 1)
    at = _put_header(at, element, <uint32_t>even_bytes)
    memcpy(at, value, length_bytes)
    if even_bytes > length_bytes:
        at[length_bytes] = padding
    return at + even_bytes


cdef inline void _put_pdu_headers(unsigned char *at, int context, unsigned char control, size_t payload_bytes) noexcept nogil:
    # P-DATA-TF with one presentation data value item (PS3.8 tables 9-22 and 9-23); lengths are big endian.
    cdef uint32_t item_bytes = <uint32_t>payload_bytes + 2
    cdef uint32_t pdu_bytes = item_bytes + 4
    cdef int i
    at[0] = 0x04
    at[1] = 0
    for i in range(4):
        at[2 + i] = <unsigned char>(pdu_bytes >> (24 - 8 * i) & 0xFF)
        at[6 + i] = <unsigned char>(item_bytes >> (24 - 8 * i) & 0xFF)
    at[10] = <unsigned char>context
    at[11] = control


cdef size_t response_encode(
    unsigned char *target,
    int context,
    unsigned short message,
    const text_t *sop_class,
    const text_t *sop_instance,
    unsigned short status,
    const char *comment,
    size_t comment_bytes,
    unsigned int offending_element,
    size_t max_pdu_bytes,
) noexcept nogil:
    cdef unsigned char command[512]
    cdef unsigned char *at = command + 12
    cdef size_t length_bytes, piece_bytes
    cdef size_t done_bytes = 0
    cdef size_t written_bytes = 0
    if sop_class.present:
        at = _put_padded(at, 0x0002, sop_class.data, sop_class.length_bytes, 0)
    at = _put_us(at, 0x0100, C_STORE_RSP)
    at = _put_us(at, 0x0120, message)
    at = _put_us(at, 0x0800, NO_DATA_SET)
    at = _put_us(at, 0x0900, status)
    if offending_element:
        at = _put16(_put16(_put_header(at, 0x0901, 4), offending_element >> 16), offending_element & 0xFFFF)
    if comment_bytes:
        at = _put_padded(at, 0x0902, comment, min(comment_bytes, <size_t>ERROR_COMMENT_BYTES), c" ")
    if sop_instance.present:
        at = _put_padded(at, 0x1000, sop_instance.data, sop_instance.length_bytes, 0)
    length_bytes = <size_t>(at - command)
    _put32(_put_header(command, 0x0000, 4), <uint32_t>(length_bytes - 12))
    # The maximum length covers the item and its header (PS3.8 annex D.1); fragments are of even length.
    piece_bytes = length_bytes
    if max_pdu_bytes and max_pdu_bytes < length_bytes + 6:
        piece_bytes = max(max_pdu_bytes, <size_t>8) - 6 & ~<size_t>1
    while done_bytes < length_bytes:
        piece_bytes = min(piece_bytes, length_bytes - done_bytes)
        memcpy(target + written_bytes + 12, command + done_bytes, piece_bytes)
        done_bytes += piece_bytes
        _put_pdu_headers(
            target + written_bytes, context, COMMAND_LAST if done_bytes == length_bytes else 0x01, piece_bytes
        )
        written_bytes += 12 + piece_bytes
    return written_bytes


cdef class Command:
    """The elements of a command set that are looked at. See dimse.pyi."""

    cdef readonly object command_field, message_id, sop_class_uid, sop_instance_uid
    cdef readonly bint has_data_set


cdef _text(const text_t *text):
    return text.data[:text.length_bytes].decode("latin-1") if text.present else None


def decode_command(command_set):
    cdef const unsigned char[::1] view = memoryview(command_set).cast("B")
    cdef command_t command
    cdef Command result = Command.__new__(Command)
    if not command_decode(&command, &view[0] if view.shape[0] else NULL, <size_t>view.shape[0]):
        raise ProtocolError("an element of the command set is longer than the command set")
    result.command_field = command.field if command.has_field else None
    result.message_id = command.message if command.has_message else None
    result.has_data_set = command.has_data_set
    result.sop_class_uid = _text(&command.sop_class)
    result.sop_instance_uid = _text(&command.sop_instance)
    return result


def encode_store_response(
    *,
    int context_id,
    unsigned short message_id,
    sop_class_uid,
    sop_instance_uid,
    unsigned short status,
    error_comment="",
    unsigned int offending_element=0,
    size_t max_pdu_bytes=0,
):
    cdef unsigned char target[RESPONSE_CEILING_BYTES]
    cdef text_t sop_class, sop_instance
    cdef bytes comment = error_comment.encode("ascii", "replace")
    cdef size_t length_bytes
    text_set(&sop_class, sop_class_uid, UID_BYTES)
    text_set(&sop_instance, sop_instance_uid, UID_BYTES)
    length_bytes = response_encode(
        target, context_id, message_id, &sop_class, &sop_instance, status, comment, len(comment), offending_element,
        max_pdu_bytes,
    )
    return (<const char *>target)[:length_bytes]
