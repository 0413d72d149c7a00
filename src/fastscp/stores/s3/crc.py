"""CRC-64/NVME, the checksum that S3 verifies for whole objects.

Enters: segments. Leaves: the checksum. Never: a copy of a segment.
"""

import base64
from collections.abc import Iterable

from awscrt.checksums import combine_crc64nvme, crc64nvme  # type: ignore[import-untyped]


def crc64nvme_of(segments: Iterable[memoryview | bytes], previous: int = 0) -> int:
    """The checksum of all segments in order, carried on from `previous`."""
    for segment in segments:
        previous = crc64nvme(segment, previous)
    return previous


def joined(first: int, second: int, second_bytes: int) -> int:
    """The checksum of two stretches of bytes in a row, from the checksum of each; `second_bytes` is the length of the second."""
    checksum: int = combine_crc64nvme(first, second, second_bytes)
    return checksum


def to_base64(checksum: int) -> str:
    """As `x-amz-checksum-crc64nvme` writes it: eight bytes, big endian, in base64."""
    return base64.b64encode(checksum.to_bytes(8, "big")).decode("ascii")
