# cython: language_level=3
"""Places for PDUs whose headers have not been read yet.

Enters: the length of the payloads that are expected. Leaves: places behind those of what must come, and what was not as expected.
Never: believes what was read there, or keeps memory without bytes in it.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy


cdef int lookahead_places(lookahead_t *ahead, iovec *places, int count, unsigned char *at, size_t room_bytes) noexcept nogil:
    cdef size_t piece_bytes
    cdef int header
    for header in range(MAX_AHEAD):
        piece_bytes = min(room_bytes, ahead.repeat_bytes)
        if piece_bytes == 0:
            break
        places[count].iov_base = at
        places[count].iov_len = piece_bytes
        count += 1
        if piece_bytes < ahead.repeat_bytes:
            break
        at += piece_bytes
        room_bytes -= piece_bytes
        places[count].iov_base = ahead.headers[header]
        places[count].iov_len = HEADERS_BYTES
        count += 1
    return count


cdef bint lookahead_set_aside(
    lookahead_t *ahead, const unsigned char *at, int header, size_t repeat_bytes, size_t count_bytes
) noexcept nogil:
    cdef unsigned char *target = <unsigned char *>malloc(count_bytes)
    cdef size_t piece_bytes
    if target is NULL:
        return False
    ahead.aside = target
    ahead.aside_at = 0
    ahead.aside_left = count_bytes
    while count_bytes:
        piece_bytes = min(count_bytes, repeat_bytes)
        memcpy(target, at, piece_bytes)
        at += piece_bytes
        target += piece_bytes
        count_bytes -= piece_bytes
        piece_bytes = min(count_bytes, <size_t>HEADERS_BYTES)
        if piece_bytes:
            memcpy(target, ahead.headers[header], piece_bytes)
            header += 1
            target += piece_bytes
            count_bytes -= piece_bytes
    return True


cdef size_t lookahead_take_aside(lookahead_t *ahead, const iovec *places, int count) noexcept nogil:
    cdef size_t taken_bytes = 0
    cdef size_t piece_bytes
    cdef int i
    for i in range(count):
        piece_bytes = min(places[i].iov_len, ahead.aside_left)
        memcpy(places[i].iov_base, ahead.aside + ahead.aside_at, piece_bytes)
        ahead.aside_at += piece_bytes
        ahead.aside_left -= piece_bytes
        taken_bytes += piece_bytes
    if ahead.aside_left == 0:
        lookahead_free(ahead)
    return taken_bytes


cdef void lookahead_free(lookahead_t *ahead) noexcept nogil:
    free(ahead.aside)
    ahead.aside = NULL
    ahead.aside_left = 0
