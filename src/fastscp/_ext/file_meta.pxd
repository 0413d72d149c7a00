# The head of a Part-10 file: see file_meta.pyi for the contract.

cdef enum:
    UID_BYTES = 64
    AE_TITLE_BYTES = 16
    # Preamble and prefix, and the nine elements at their longest.
    FILE_META_CEILING_BYTES = 132 + 12 + 14 + 5 * (8 + UID_BYTES) + 2 * (8 + AE_TITLE_BYTES)

# A UID or title as it goes into a file or an answer. A plain value.
cdef struct text_t:
    bint present
    int length_bytes
    char data[UID_BYTES + 1]

cdef bint text_set(text_t *text, object value, int ceiling_bytes) except -1

# Writes preamble, prefix and group 0002 to `target` of FILE_META_CEILING_BYTES; returns the length.
cdef size_t file_meta_encode(
    unsigned char *target,
    const text_t *sop_class,
    const text_t *sop_instance,
    const text_t *syntax,
    const text_t *source_title,
    const text_t *implementation_class,
    const text_t *implementation_version,
) noexcept nogil
