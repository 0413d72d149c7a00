"""A program with a file store, and the order of its system calls.

Enters: a program's text. Leaves: which of its files, names and directories reached the disk, and its answers, in order.
Never: a wait without an end.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastscp.stores.file import INCOMING

CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,sendto"


def told(program: str, directory: Path, fsync: str) -> list[str]:
    """ "file" for a temporary file, "name" for a final name, "answer" for what was sent to a peer, and a directory's path below the root.

    Args:
        program: gets the root of its store, which is below `directory`, and `fsync` as arguments.
    """
    strace = shutil.which("strace")
    if strace is None:
        assert os.environ.get("CI") != "true", "strace is not installed"
        pytest.skip("no strace")
    calls, root = directory / "calls", directory / "root"
    command = [strace, "-f", "-y", "-e", CALLS, "-o", str(calls), sys.executable, "-c", program, str(root), fsync]
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode and "PTRACE" in done.stderr.upper():
        assert os.environ.get("CI") != "true", done.stderr
        pytest.skip("tracing is not permitted")
    assert done.returncode == 0, done.stderr
    return [what for line in calls.read_text().splitlines() if (what := _what(line, re.escape(str(root)))) is not None]


def _what(line: str, root: str) -> str | None:
    if re.search(rf"f(?:data)?sync\(\d+<{root}/{re.escape(INCOMING)}/", line):
        return "file"
    if found := re.search(rf"f(?:data)?sync\(\d+<{root}(/?[0-9./]*)>", line):
        return found[1] or "/"
    if re.search(r"(rename|link).*\.dcm.* = 0$", line):
        # The first attempt finds that the directories are missing.
        return "name"
    if re.search(r"sendto\(.*MSG_DONTWAIT.* = \d+$", line):
        # A peer's own have no flags.
        return "answer"
    return None
