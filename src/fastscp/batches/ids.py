"""The names of batches: 16 hexadecimal digits of entropy, a dash, and 12 of the time in milliseconds since the epoch.

Enters: entropy and the time. Leaves: an id of [0-9a-f-], 29 long. Never: a clock or a random source of its own.
"""

import re
from collections.abc import Callable

ENTROPY_BYTES = 8
PATTERN = "^[0-9a-f]{16}-[0-9a-f]{12}$"

_batch_id = re.compile(PATTERN).fullmatch


def new_batch_id(entropy: Callable[[int], bytes], now_s: float) -> str:
    """A name for a batch that is opened now.

    The entropy comes first because S3 spreads load by the beginning of a key.

    Args:
        entropy: returns as many random bytes as it is asked for.
        now_s: seconds since the epoch.
    """
    return f"{entropy(ENTROPY_BYTES).hex()}-{int(now_s * 1000) & 0xFFFF_FFFF_FFFF:012x}"


def is_batch_id(text: str) -> bool:
    """Whether this is the name of a batch."""
    return _batch_id(text) is not None
