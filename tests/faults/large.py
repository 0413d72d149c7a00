"""Instances with much pixel data, made at once.

Enters: pixel data, or how much of it. Leaves: data sets. Never: a byte at a time.
"""

import random
from dataclasses import replace

from tests.peers.datasets import PIXEL_DATA, Made, element, make

_PIXEL_BYTES = 64


def without_pixels(made: Made) -> bytes:
    """A data set up to its pixel data, which comes last and is as long as it is where nobody asks for more."""
    return made.data_set[: -len(element(PIXEL_DATA, "OW", bytes(_PIXEL_BYTES)))]


def with_pixels(pixels: bytes) -> Made:
    """An instance with these pixels."""
    made = make(pixel_bytes=_PIXEL_BYTES)
    return replace(made, data_set=without_pixels(made) + element(PIXEL_DATA, "OW", pixels))


def large_instance(pixel_bytes: int) -> Made:
    """An instance no two pieces of which are alike."""
    return with_pixels(random.Random(pixel_bytes).randbytes(pixel_bytes))
