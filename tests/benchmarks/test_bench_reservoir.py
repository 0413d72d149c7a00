"""Memory that is kept free is free, and in pieces.

Enters: sizes. Leaves: a file with holes. Never: more than a few hundred MB.
"""

import os
from pathlib import Path

import pytest

from benchmarks.reservoir import SLACK_BYTES, STRIPE_BYTES, Reservoir

MIB = 1 << 20


def held_bytes(file: Path) -> int:
    return file.stat().st_blocks * 512


@pytest.mark.requires_linux
def test_every_other_stripe_is_free_and_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "reservoir"
    with Reservoir(tmp_path) as reservoir:
        for wanted_bytes, free_bytes in ((MIB, MIB), (MIB, MIB), (1, MIB), (3 * MIB + 1, 3 * MIB + STRIPE_BYTES)):
            reservoir.ensure(wanted_bytes)
            assert file.stat().st_size == 2 * (free_bytes + SLACK_BYTES)
            assert held_bytes(file) == free_bytes + SLACK_BYTES
        with file.open("rb") as content:
            for hole in range(0, file.stat().st_size, 2 * STRIPE_BYTES):
                assert os.lseek(content.fileno(), hole, os.SEEK_HOLE) == hole
                assert os.lseek(content.fileno(), hole, os.SEEK_DATA) == hole + STRIPE_BYTES
    assert not file.exists()
