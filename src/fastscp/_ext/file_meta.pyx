# cython: language_level=3
"""The head of a Part-10 file: preamble, prefix and file meta information (PS3.10 section 7.1).

Enters: UIDs and titles. Leaves: bytes, explicit VR little endian. Never: a value longer than its place.
"""

from libc.string cimport memcpy, memset


cdef bint text_set(text_t *text, object value, int ceiling_bytes) except -1:
    cdef bytes encoded = value.encode("ascii")
    if len(encoded) > ceiling_bytes:
        raise ValueError(f"longer than {ceiling_bytes} bytes: {value!r}")
    text.present = True
    text.length_bytes = <int>len(encoded)
    memcpy(text.data, <const char *>encoded, len(encoded))
    return True


cdef unsigned char *_put_header(
    unsigned char *at, unsigned short element, const char *vr, unsigned short length_bytes
) noexcept nogil:
    at[0] = 2
    at[1] = 0
    at[2] = <unsigned char>(element & 0xFF)
    at[3] = <unsigned char>(element >> 8)
    at[4] = <unsigned char>vr[0]
    at[5] = <unsigned char>vr[1]
    at[6] = <unsigned char>(length_bytes & 0xFF)
    at[7] = <unsigned char>(length_bytes >> 8)
    return at + 8


cdef unsigned char *_put_text(
    unsigned char *at, unsigned short element, const char *vr, const text_t *text, unsigned char padding
) noexcept nogil:
    cdef int even_bytes = text.length_bytes + (text.length_bytes & 1)
    at = _put_header(at, element, vr, <unsigned short>even_bytes)
    memcpy(at, text.data, text.length_bytes)
    if even_bytes > text.length_bytes:
        at[text.length_bytes] = padding
    return at + even_bytes


cdef size_t file_meta_encode(
    unsigned char *target,
    const text_t *sop_class,
    const text_t *sop_instance,
    const text_t *syntax,
    const text_t *source_title,
    const text_t *implementation_class,
    const text_t *implementation_version,
) noexcept nogil:
    cdef unsigned char *group = target + 132
    cdef unsigned char *at
    cdef unsigned int group_bytes
    memset(target, 0, 128)
    memcpy(target + 128, "DICM", 4)
    at = _put_header(group, 0x0000, "UL", 4) + 4
    # (0002,0001) is OB: two reserved bytes and a 32-bit length.
    at = _put_header(at, 0x0001, "OB", 0)
    memcpy(at, b"\x02\x00\x00\x00\x00\x01", 6)
    at += 6
    at = _put_text(at, 0x0002, "UI", sop_class, 0)
    at = _put_text(at, 0x0003, "UI", sop_instance, 0)
    at = _put_text(at, 0x0010, "UI", syntax, 0)
    at = _put_text(at, 0x0012, "UI", implementation_class, 0)
    at = _put_text(at, 0x0013, "SH", implementation_version, c" ")
    at = _put_text(at, 0x0016, "AE", source_title, c" ")
    group_bytes = <unsigned int>(at - group - 12)
    group[8] = <unsigned char>(group_bytes & 0xFF)
    group[9] = <unsigned char>(group_bytes >> 8)
    group[10] = 0
    group[11] = 0
    return <size_t>(at - target)


def encode_file_meta(
    sop_class_uid,
    sop_instance_uid,
    transfer_syntax_uid,
    source_ae_title,
    implementation_class_uid,
    implementation_version_name,
):
    cdef text_t texts[6]
    cdef unsigned char target[FILE_META_CEILING_BYTES]
    cdef size_t length
    text_set(&texts[0], sop_class_uid, UID_BYTES)
    text_set(&texts[1], sop_instance_uid, UID_BYTES)
    text_set(&texts[2], transfer_syntax_uid, UID_BYTES)
    text_set(&texts[3], source_ae_title, AE_TITLE_BYTES)
    text_set(&texts[4], implementation_class_uid, UID_BYTES)
    text_set(&texts[5], implementation_version_name, AE_TITLE_BYTES)
    length = file_meta_encode(target, &texts[0], &texts[1], &texts[2], &texts[3], &texts[4], &texts[5])
    return (<const char *>target)[:length]
