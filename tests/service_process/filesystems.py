"""Small file systems that run full or refuse to be written to.

Enters: a size. Leaves: a mounted directory, unmounted afterwards. Never: a skipped test where CI runs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def tmpfs(place: Path, *, size_mib: int, read_only: bool = False) -> Iterator[Path]:
    """A tmpfs at `place`. Skips the test where mounting is not permitted, which in CI is a failure."""
    place.mkdir()
    options = f"size={size_mib}m" + (",ro" if read_only else "")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        assert os.environ.get("CI") != "true", f"cannot mount: {mounted.stderr}"
        pytest.skip("mounting a small file system needs root on Linux")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
