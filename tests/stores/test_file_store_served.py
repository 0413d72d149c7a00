"""What reaches the disk, and when the peer is told, of instances that are committed without the interpreter.

Enters: a wire with a file store's committer, traced. Leaves: the order of its system calls. Never: an answer before the last of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.traced import told

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
    calls = told(SERVING, tmp_path, fsync)
    if fsync == "no":
        assert calls == ["name", "answer", "name", "answer"]
        return
    assert [*calls[:2], *sorted(calls[2:5])] == ["file", "name", "/", "/1.2.3", "/1.2.3/1.2.3.1"]
    # The directories above are on the disk already.
    assert calls[5:] == ["answer", "file", "name", "/1.2.3/1.2.3.1", "answer"]
