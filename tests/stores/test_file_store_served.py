"""What reaches the disk, and when the peer is told, of instances that are committed without the interpreter.

Enters: a wire with a file store's committer, traced. Leaves: the order of its system calls. Never: an answer before the last of them.
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

SERVING = """
import sys
from pathlib import Path
from fastscp._ext import pdu
from fastscp.stores.file import FileStore
from reference import vectors
from reference.serving import Serving, ordinary
from reference.wiring import Connection, tcp_pair
store = FileStore(Path(sys.argv[1]), fsync=sys.argv[2] == "yes", replace=True)
line = Connection(*tcp_pair())
serving = Serving(line, store.committer)
line.peer.sendall(ordinary(1).stream + ordinary(2).stream + vectors.ECHO)
assert serving.serve() == pdu.MESSAGE
serving.assert_committed(ordinary(1), ordinary(2))
"""


@pytest.mark.requires_linux
@pytest.mark.parametrize("fsync", ["yes", "no"])
def test_the_answer_comes_after_everything_else(tmp_path: Path, fsync: str) -> None:
    strace = shutil.which("strace")
    if strace is None:
        assert os.environ.get("CI") != "true", "strace is not installed"
        pytest.skip("no strace")
    calls = tmp_path / "calls"
    calls_of = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,sendto"
    command = [strace, "-f", "-y", "-e", calls_of, "-o", str(calls), sys.executable, "-c", SERVING, str(tmp_path / "root"), fsync]
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode and "PTRACE" in done.stderr.upper():
        assert os.environ.get("CI") != "true", done.stderr
        pytest.skip("tracing is not permitted")
    assert done.returncode == 0, done.stderr
    root = re.escape(str(tmp_path / "root"))
    told = []
    for line in calls.read_text().splitlines():
        if re.search(rf"f(?:data)?sync\(\d+<{root}/{re.escape(INCOMING)}/", line):
            told.append("file")
        elif found := re.search(rf"f(?:data)?sync\(\d+<{root}(/?[0-9./]*)>", line):
            told.append(found[1] or "/")
        elif re.search(r"(rename|link)\w*\(.* = 0$", line):
            # The first attempt finds that the directories are missing.
            told.append("name")
        elif re.search(r"sendto\(.*MSG_DONTWAIT.* = \d+$", line):
            # The peer's own have no flags.
            told.append("answer")
    if fsync == "no":
        assert told == ["name", "answer", "name", "answer"]
        return
    assert [*told[:2], *sorted(told[2:5])] == ["file", "name", "/", "/1.2.3", "/1.2.3/1.2.3.1"]
    # The directories above are on the disk already.
    assert told[5:] == ["answer", "file", "name", "/1.2.3/1.2.3.1", "answer"]
