"""What fastscp has to say about UIDs: which make a key, which conform, what a transfer syntax means, which are its own.

Enters: UIDs stripped of their padding. Leaves: verdicts and constants.
Never: rewrites a UID (that would make two of one), looks one up in a dictionary of names.
"""

import re

IMPLEMENTATION_CLASS_UID = "2.25.232482984054295973871290066303403445239"
"""(0002,0012) and user information item 52H. Derived from a UUID, PS3.5 annex B.2."""

IMPLEMENTATION_VERSION_NAME = "FASTSCP_0_1"
"""(0002,0013) and user information item 55H, at most 16 characters."""

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED_TRANSFER_SYNTAXES = frozenset(
    {
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    }
)

_key_safe = re.compile(r"[0-9](?:[0-9.]{0,62}[0-9])?").fullmatch
_conformant = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*").fullmatch


def is_key_safe(uid: str) -> bool:
    """Whether a UID can be part of a path or an object key: 1 to 64 of digits and dots, no dot at either end."""
    return _key_safe(uid) is not None


def is_conformant(uid: str) -> bool:
    """Whether a UID has the form of PS3.5 section 9.1; what has is key-safe too."""
    return len(uid) <= 64 and _conformant(uid) is not None


def transfer_syntax_encoding(transfer_syntax_uid: str) -> tuple[bool, bool, bool]:
    """(explicit VR, little endian, deflated) of a transfer syntax, PS3.5 annex A and section 10.

    One that is unknown is taken for explicit VR little endian, as every syntax added since 1995 has been.
    """
    return (
        transfer_syntax_uid != IMPLICIT_VR_LITTLE_ENDIAN,
        transfer_syntax_uid != EXPLICIT_VR_BIG_ENDIAN,
        transfer_syntax_uid in DEFLATED_TRANSFER_SYNTAXES,
    )
