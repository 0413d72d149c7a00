"""What a FileCommitter remembers and shares: directories on the disk, names of temporary files.

Enters: directories, more than it remembers and some that vanish; threads. Leaves: files. Never: a new directory that is not synced.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.files import FileCommitter
from fastscp._ext.memory import BufferPool
from reference import traffic, vectors
from reference.driving import native_reader
from reference.filesystems import mounted, opened, without_privileges
from reference.serving import Serving, arrived, ordinary
from reference.wiring import LONG_S, Connection, tcp_pair

pytestmark = pytest.mark.requires_linux

REMEMBERED_CEILING = 2048


def received() -> Any:
    reader = native_reader(BufferPool(1 << 26))
    stream = traffic.store(1, traffic.data_set())
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    return reader.take_instance()


@contextmanager
def unreadable(directory: Path) -> Iterator[None]:
    """It can be written to, but not opened to be synced: whoever tries is told so."""
    directory.chmod(0o333)
    try:
        with without_privileges():
            yield
    finally:
        directory.chmod(0o777)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Everybody may write to it."""
    before = os.umask(0)
    (tmp_path / "root/incoming").mkdir(parents=True)
    os.umask(before)
    (tmp_path / "root").chmod(0o777)
    return tmp_path / "root"


# Directories that are known to be on the disk.


class Looking:
    """Commits one instance into directories, and tells which of them would be synced with those above them."""

    def __init__(self, root: Path, root_fd: int) -> None:
        self.root = root
        self.committer = FileCommitter(root_fd, b"incoming", replace=True, fsync=True)
        self.instance = received()

    def commit(self, directory: str) -> None:
        self.committer.commit(self.instance, -1, self.committer.new_temporary_path(), f"{directory}/file".encode())
        (self.root / directory).chmod(0o777)

    def known(self, directories: list[str]) -> set[str]:
        out = set()
        with unreadable(self.root):
            for directory in directories:
                try:
                    self.committer.commit(self.instance, -1, self.committer.new_temporary_path(), f"{directory}/file".encode())
                    out.add(directory)
                except PermissionError:
                    pass
        return out


def test_a_directory_is_synced_with_those_above_it_once(root: Path) -> None:
    with opened(root) as root_fd:
        looking = Looking(root, root_fd)
        looking.commit("1")
        (root / "2").mkdir(mode=0o777)
        (root / "2").chmod(0o777)
        assert looking.known(["1", "2"]) == {"1"}
        looking.commit("2")
        assert looking.known(["1", "2"]) == {"1", "2"}


def test_one_whose_commit_failed_is_not_known(root: Path) -> None:
    with opened(root) as root_fd:
        looking = Looking(root, root_fd)
        for _ in range(2):
            assert looking.known(["1"]) == set()
        looking.commit("1")
        assert looking.known(["1"]) == {"1"}


def test_more_directories_than_it_remembers(root: Path) -> None:
    """The place of one is taken by another, which is never taken for it."""
    directories = [str(number) for number in range(2200)]
    whole = b"".join(received().segments())
    # In memory: thousands of syncs of a disk take their time.
    with mounted(root, "size=64m,mode=777"), opened(root) as root_fd:
        (root / "incoming").mkdir()
        (root / "incoming").chmod(0o777)
        looking = Looking(root, root_fd)
        for directory in directories:
            looking.commit(directory)
        known = looking.known(directories)
        forgotten = [directory for directory in directories if directory not in known]
        assert len(known) <= REMEMBERED_CEILING
        assert len(known) > REMEMBERED_CEILING / 2
        # Whoever comes last is remembered, in the place of one at most.
        for directory in forgotten[:20]:
            looking.commit(directory)
            assert looking.known([directory]) == {directory}
        now_known = looking.known(directories)
        assert len(now_known - known) <= 20
        assert len(known - now_known) <= 20
        assert known != now_known
        assert {(root / directory / "file").read_bytes() for directory in directories} == {whole}
        assert not list((root / "incoming").iterdir())


def test_names_that_begin_alike_are_told_apart(root: Path) -> None:
    with opened(root) as root_fd:
        looking = Looking(root, root_fd)
        looking.commit("1.2")
        for other in ("1", "1.", "1.2.", "1.20", "1.3"):
            (root / other).mkdir()
            (root / other).chmod(0o777)
            assert looking.known([other, "1.2"]) == {"1.2"}


def test_a_directory_whose_name_is_too_long_to_be_remembered(root: Path) -> None:
    with opened(root) as root_fd:
        looking = Looking(root, root_fd)
        longest, too_long = "l" * 135, "t" * 136
        for directory in (longest, too_long):
            looking.commit(directory)
        assert looking.known([longest, too_long]) == {longest}
        looking.commit(too_long)
        assert looking.known([longest, too_long]) == {longest}


def test_a_known_directory_that_was_removed_is_made_and_synced_again(root: Path, tcp: Connection) -> None:
    with opened(root) as root_fd:
        serving = Serving(tcp, FileCommitter(root_fd, b"incoming", replace=True, fsync=True))
        sent = [ordinary(number) for number in range(1, 5)]

        def serve(number: int) -> int:
            tcp.peer.sendall(sent[number].stream + vectors.ECHO)
            event = serving.serve()
            if event == pdu.STORE:
                serving.reader.take_instance().release()
                assert serving.serve() == pdu.MESSAGE
            serving.reader.take_message()
            return event

        assert serve(0) == pdu.MESSAGE
        (root / "1.2.3").chmod(0o777)
        (root / "1.2.3/1.2.3.1").chmod(0o777)
        with unreadable(root):
            assert serve(1) == pdu.MESSAGE, "known, and not synced"
        shutil.rmtree(root / "1.2.3")
        with unreadable(root):
            assert serve(2) == pdu.STORE, "new, and what is above it cannot be synced"
        shutil.rmtree(root / "1.2.3")
        assert serve(3) == pdu.MESSAGE
        serving.assert_committed(sent[0], sent[1], sent[3])
        assert [path.name for path in root.rglob("*.dcm")] == [Path(sent[3].path).name]


def test_directories_that_vanish_while_others_commit(root: Path, tcp: Connection, beside: Callable[..., Any]) -> None:
    """Committed, or the owner's; nothing else, and no temporary file."""
    sent = [ordinary(number) for number in range(400)]
    stop = threading.Event()

    def tidy() -> None:
        while not stop.is_set():
            shutil.rmtree(root / "1.2.3", ignore_errors=True)

    with opened(root) as root_fd:
        serving = Serving(tcp, FileCommitter(root_fd, b"incoming", replace=True, fsync=False))
        tidying = beside(tidy)
        try:
            beside(tcp.peer.sendall, b"".join(each.stream for each in sent) + vectors.ECHO)
            left = 0
            while (event := serving.serve()) == pdu.STORE:
                left += 1
                serving.reader.take_instance().release()
            assert event == pdu.MESSAGE
        finally:
            stop.set()
        tidying.result(LONG_S)
        assert serving.wire.committed[0] == serving.sender.instance_count == len(sent) - left
        assert not list((root / "incoming").iterdir())
        serving.reader.take_message()
        tcp.peer.sendall(sent[0].stream + vectors.ECHO)
        assert serving.serve() == pdu.MESSAGE
        assert (root / sent[0].path).read_bytes().endswith(sent[0].data_set)


# Temporary files.


def test_threads_have_temporary_files_of_their_own(root: Path, beside: Callable[..., Any]) -> None:
    """A name that two of them had would be refused to the second, whose instance would be its owner's; and no number is given twice."""
    lines, count = [Connection(*tcp_pair()) for _ in range(4)], 3000
    with opened(root) as root_fd:
        committer = FileCommitter(root_fd, b"incoming", replace=False, fsync=False)
        try:
            events, paths = [], []
            for thread, each in enumerate(lines):
                serving = Serving(each, committer)
                sent = [ordinary(count * thread + number) for number in range(count)]
                beside(each.peer.sendall, b"".join(one.stream for one in sent) + vectors.ECHO)
                answers = beside(arrived, each.peer, sum(len(one.answer()) for one in sent))
                events.append((serving, sent, answers, beside(serving.serve)))
                paths.append(beside(lambda: [committer.new_temporary_path() for _ in range(count)]))
            for serving, sent, answers, event in events:
                assert event.result(LONG_S) == pdu.MESSAGE
                serving.assert_committed(*sent)
                assert answers.result(LONG_S) == b"".join(one.answer() for one in sent)
                for one in sent[::50]:
                    assert (root / one.path).read_bytes().endswith(one.data_set)
            given = [path for future in paths for path in future.result(LONG_S)]
            assert len(set(given)) == len(given)
            assert committer.new_temporary_path() == b"incoming/%d" % (2 * count * len(lines))
        finally:
            for each in lines:
                each.close()
    assert not list((root / "incoming").iterdir())


@pytest.mark.parametrize("name", [b"t" * 136, b"t" * 5000, b"a\0b", b"\0"])
def test_a_temporary_directory_that_is_none(root: Path, name: bytes) -> None:
    with opened(root) as root_fd, pytest.raises(ValueError):
        FileCommitter(root_fd, name, replace=True, fsync=True)


def test_no_temporary_directory_at_all(root: Path) -> None:
    with opened(root) as root_fd, pytest.raises(TypeError):
        FileCommitter(root_fd, None, replace=True, fsync=True)  # type: ignore[arg-type]


def test_the_longest_temporary_directory(root: Path, tcp: Connection) -> None:
    (root / ("t" * 135)).mkdir()
    with opened(root) as root_fd:
        committer = FileCommitter(root_fd, b"t" * 135, replace=True, fsync=True)
        assert committer.new_temporary_path() == b"t" * 135 + b"/0"
        serving = Serving(tcp, committer)
        tcp.peer.sendall(ordinary(1).stream + vectors.ECHO)
        assert serving.serve() == pdu.MESSAGE
        serving.assert_committed(ordinary(1))
        assert committer.new_temporary_path() == b"t" * 135 + b"/2"
