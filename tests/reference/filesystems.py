"""Directories to write to that are full, or closed to whoever runs the test.

Enters: a directory. Leaves: it, until the block ends. Never: a skipped test where CI runs.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def opened(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """A small file system of its own."""
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", directory], env={}, capture_output=True, check=False)
    if not done or done.returncode:
        problem = f"cannot mount a file system: {done.stderr.decode() if done else 'no mount'}"
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    try:
        yield
    finally:
        subprocess.run([shutil.which("umount") or "umount", directory], env={}, check=True)


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user whom permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
