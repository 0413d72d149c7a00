"""Instances that are written to a file while they arrive, without their owner.

Enters: long data sets through a socket. Leaves: files. Never: a byte twice, a write to a descriptor that is not the instance's any more.
"""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.files import FileCommitter
from reference import traffic
from reference.driving import Limits
from reference.filesystems import opened
from reference.wiring import LONG_S, Connection

THRESHOLD_BYTES = 1 << 20
DATA = traffic.data_set(pixels=random.Random(1).randbytes(5_000_000))
STREAM = traffic.store(1, DATA, pdv_bytes=60_000)
LIMITS = Limits(max_pdu_bytes=65536, spill_threshold_bytes=THRESHOLD_BYTES)


def begin(wire: Any, reader: Any, fd: int, at_bytes: int) -> None:
    """What a store does at the first SPILL."""
    assert wire.receive(LONG_S) == pdu.SPILL
    reader.instance.write_spillable(fd)
    reader.instance.spill_at_bytes = at_bytes
    reader.instance.spill_to(fd)


@pytest.mark.parametrize("at_bytes", [1, 100_000, 512 << 10, 2 << 20])
def test_what_arrives_is_written_and_the_owner_is_asked_once(
    line: Connection, tmp_path: Path, beside: Callable[..., Any], at_bytes: int
) -> None:
    wire, reader = line.wire(limits=LIMITS)
    beside(line.peer.sendall, STREAM * 2)
    for name in ("first", "second"):
        with opened(tmp_path) as root_fd:
            committer = FileCommitter(root_fd, b".", replace=True, fsync=False)
            fd = os.open(tmp_path / "temporary", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            begin(wire, reader, fd, at_bytes)
            assert wire.receive(LONG_S) == pdu.STORE
            instance = reader.take_instance()
            assert instance.spilled_bytes >= len(DATA) - max(at_bytes, 2 * THRESHOLD_BYTES)
            committer.commit(instance, fd, b"temporary", name.encode())
        instance.release()
        assert (tmp_path / name).read_bytes()[instance.file_meta_bytes :] == DATA


def test_memory_stays_what_the_interval_says(line: Connection, tmp_path: Path, beside: Callable[..., Any]) -> None:
    """Half a MiB at a time needs the first segments, and then no more than the interval and what is read beside it."""
    wire, reader = line.wire(limits=LIMITS)
    beside(line.peer.sendall, STREAM)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        begin(wire, reader, file.fileno(), 512 << 10)
        assert wire.receive(LONG_S) == pdu.STORE
        instance = reader.take_instance()
        held_bytes = sum(len(view) for view in instance.segments())
        assert held_bytes <= (512 << 10) + 128 * 1024
        assert max(len(view) for view in instance.segments()) <= 128 * 1024


@pytest.mark.requires_linux
def test_a_write_that_fails_is_told_once_and_not_tried_again(line: Connection, tmp_path: Path, beside: Callable[..., Any]) -> None:
    wire, reader = line.wire(limits=LIMITS)
    beside(line.peer.sendall, STREAM + STREAM)
    full = os.open("/dev/full", os.O_WRONLY)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        begin(wire, reader, file.fileno(), 512 << 10)
        written_bytes = os.fstat(file.fileno()).st_size
        reader.instance.spill_to(full)
        assert wire.receive(LONG_S) == pdu.SPILL
        for _ in range(2):
            with pytest.raises(OSError) as raised:
                reader.instance.write_spillable(file.fileno())
            assert raised.value.errno == errno.ENOSPC
        assert os.fstat(file.fileno()).st_size == written_bytes
        # The owner gives it up, and the next one begins anew.
        os.close(full)
        reader.discard()
        assert wire.receive(LONG_S) == pdu.STORE
        assert reader.take_instance().refusal == "no_memory"
        begin(wire, reader, file.fileno(), 512 << 10)
        assert wire.receive(LONG_S) == pdu.STORE
        instance = reader.take_instance()
        file.write(b"".join(instance.segments()))
    assert (tmp_path / "file").read_bytes()[written_bytes + instance.file_meta_bytes :] == DATA


def test_nothing_is_written_of_what_is_discarded(line: Connection, tmp_path: Path, beside: Callable[..., Any]) -> None:
    wire, reader = line.wire(limits=LIMITS)
    beside(line.peer.sendall, STREAM + STREAM)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        begin(wire, reader, file.fileno(), 1)
        written_bytes = os.fstat(file.fileno()).st_size
        reader.discard()
        assert wire.receive(LONG_S) == pdu.STORE
        reader.take_instance().release()
        assert wire.receive(LONG_S) == pdu.SPILL  # The file was that of the other instance.
        reader.discard()
        assert wire.receive(LONG_S) == pdu.STORE
        assert os.fstat(file.fileno()).st_size == written_bytes


def test_an_instance_that_was_released_goes_nowhere(line: Connection) -> None:
    wire, reader = line.wire()
    line.peer.sendall(traffic.store(1, traffic.data_set()))
    assert wire.receive(LONG_S) == pdu.STORE
    instance = reader.take_instance()
    instance.release()
    with pytest.raises(ValueError):
        instance.spill_to(1)
