# The few command elements that C-STORE needs: see dimse.pyi for the contract.

from fastscp._ext.file_meta cimport text_t

cdef enum:
    COMMAND_CEILING_BYTES = 16384
    ERROR_COMMENT_BYTES = 64
    # A response is under 300 bytes; this holds it even if a peer's maximum length cuts it into fragments of two bytes.
    RESPONSE_CEILING_BYTES = 4096

cdef struct command_t:
    bint has_field
    bint has_message
    bint has_data_set
    unsigned short field
    unsigned short message
    text_t sop_class           # not present where longer than a UID can be
    text_t sop_instance

# False where a length does not fit.
cdef bint command_decode(command_t *command, const unsigned char *data, size_t length_bytes) noexcept nogil

# Writes P-DATA-TF PDUs to `target` of RESPONSE_CEILING_BYTES; returns their length.
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
) noexcept nogil
