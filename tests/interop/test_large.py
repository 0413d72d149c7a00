"""A multi-frame instance larger than any memory budget should be, made up while it is sent.

Enters: a gigabyte that is on no disk. Leaves: the same gigabyte in a file. Never: a receiver that grows with it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import PIXEL_DATA, element, make
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp

pytestmark = pytest.mark.requires_linux  # what is held is counted in /proc

FRAME_BYTES = 131_060
FRAMES = 8_200
GROWTH_LIMIT_BYTES = 96 * 2**20


def frames() -> Iterator[bytes]:
    """Frames that are all different, without a random generator in the loop."""
    noise = os.urandom(FRAME_BYTES - 8)
    for number in range(FRAMES):
        yield struct.pack("<Q", number) + noise


def test_a_gigabyte_in_constant_memory(receiver: FastScp) -> None:
    made = make(pixel_bytes=0)
    head = made.data_set.removesuffix(element(PIXEL_DATA, "OW", b"")) + element(PIXEL_DATA, "OW", b"", length=FRAME_BYTES * FRAMES)
    sent = hashlib.blake2b(head)
    with RawScu(receiver.port, timeout_s=100) as scu:
        accepted = scu.associate()
        assert accepted.max_pdu_bytes >= FRAME_BYTES + 6
        before_bytes = receiver.resident_peak_bytes()
        command = enc.store_command(made.sop_class, made.sop_instance)
        scu.send(enc.pdu(enc.P_DATA, enc.pdv(1, command, command=True, last=True) + enc.pdv(1, head, command=False, last=False)))
        for frame in frames():
            sent.update(frame)
            scu.send(enc.pdu(enc.P_DATA, enc.pdv(1, frame, command=False, last=False)))
        scu.send(enc.pdu(enc.P_DATA, enc.pdv(1, b"", command=False, last=True)))
        response = scu.read_response()
        assert response.status == 0, response.comment
        assert receiver.resident_peak_bytes() - before_bytes < GROWTH_LIMIT_BYTES
        scu.release()
    stored = receiver.store / made.relative_path
    try:
        assert stored.stat().st_size > 2**30
        assert data_set_digest(stored) == sent.hexdigest()
    finally:
        stored.unlink()
    assert receiver.metric("fastscp_memory_in_use_bytes") == 0
    assert not receiver.stray_files()


def data_set_digest(path: Path) -> str:
    """Digest of what follows the file meta."""
    with path.open("rb") as file:
        start = file.read(4096)
        file.seek(144 + struct.unpack_from("<L", start, 140)[0])
        digest = hashlib.blake2b()
        while block := file.read(2**20):
            digest.update(block)
        return digest.hexdigest()


def test_a_spilled_instance_has_the_same_form_as_a_small_one(receiver: FastScp) -> None:
    """Over the spill threshold the file meta is written on another path."""
    made = make(pixel_bytes=40 * 2**20)
    with RawScu(receiver.port) as scu:
        scu.associate()
        assert scu.store(made.sop_class, made.sop_instance, made.data_set, data_pdv_bytes=100_000).status == 0
        scu.release()
    assert read_part10(receiver.store / made.relative_path).data_set == made.data_set
