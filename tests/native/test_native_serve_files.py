"""Files that `Wire.serve` commits, and what it leaves to the owner where it cannot.

Enters: instances, and directories that are full, closed or in the way. Leaves: files as a `FileStore` writes them. Never: half of one.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.files import FileCommitter
from fastscp._ext.memory import BufferPool
from fastscp.stores import InstanceName
from fastscp.stores.file import FileStore
from reference import traffic, vectors
from reference.driving import native_reader
from reference.filesystems import mounted, opened, without_privileges
from reference.serving import Sent, Serving, assert_answers, ordinary, response
from reference.wiring import Connection

SIZES = [0, 1, 4000, 70_000, 3_000_000]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@contextmanager
def committing(line: Connection, root: Path, *, replace: bool = True, fsync: bool = True) -> Iterator[Serving]:
    (root / "incoming").mkdir(exist_ok=True)
    with opened(root) as root_fd:
        yield Serving(line, FileCommitter(root_fd, b"incoming", replace=replace, fsync=fsync))


def stored(sent: Sent, root: Path) -> bytes:
    """The file that a `FileStore` makes of the same message, received and committed by hand."""
    reader = native_reader(BufferPool(1 << 26))
    assert reader.feed(sent.stream) == (pdu.STORE, len(sent.stream))
    instance = reader.take_instance()
    store = FileStore(root, fsync=False, replace=True)
    store.commit(instance, InstanceName(*instance.ordinary_name()))
    store.close()
    instance.release()
    return (root / sent.path).read_bytes()


@pytest.mark.parametrize("fsync", [True, False])
@pytest.mark.parametrize("replace", [True, False])
def test_the_files_are_those_of_a_file_store(
    tcp: Connection, tmp_path: Path, beside: Callable[..., Any], replace: bool, fsync: bool
) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    sent = [ordinary(number, bytes(range(256)) * (size // 256) + bytes(size % 256 // 2 * 2)) for number, size in enumerate(SIZES)]
    with committing(tcp, root, replace=replace, fsync=fsync) as serving:
        beside(tcp.peer.sendall, b"".join(each.stream for each in sent) + vectors.ECHO)
        assert serving.serve() == pdu.MESSAGE
        assert_answers(tcp.peer, b"".join(each.answer() for each in sent))
        serving.assert_committed(*sent)
        assert files(root) == {each.path: stored(each, other) for each in sent}


def test_the_store_itself_commits_natively_and_by_hand_to_the_same_place(tcp: Connection, tmp_path: Path) -> None:
    store = FileStore(tmp_path, fsync=True, replace=True)
    serving = Serving(tcp, store.committer)
    serving.wire.leave_to_owner = True
    tcp.peer.sendall(ordinary(1).stream + ordinary(1).stream + ordinary(2).stream + vectors.ECHO)
    assert serving.serve() == pdu.STORE
    instance = serving.take(0x0000)
    store.commit(instance, InstanceName(*instance.ordinary_name()))
    instance.release()
    by_hand = files(tmp_path)
    (tmp_path / ordinary(1).path).write_bytes(b"before")
    serving.wire.leave_to_owner = False
    assert serving.serve() == pdu.MESSAGE
    serving.assert_committed(ordinary(1), ordinary(2))
    assert files(tmp_path) == {**by_hand, ordinary(2).path: (tmp_path / ordinary(2).path).read_bytes()}
    store.close()


def test_uids_may_be_as_long_as_uids_can_be(tcp: Connection, tmp_path: Path) -> None:
    study, series, sop_instance = ("1." + digit * 62 for digit in "345")
    data_set = traffic.data_set(study_instance_uid=study, series_instance_uid=series, sop_instance_uid=sop_instance)
    with committing(tcp, tmp_path) as serving:
        for _ in range(2):
            tcp.peer.sendall(traffic.store(1, data_set, sop_instance_uid=sop_instance) + vectors.ECHO)
            assert serving.serve() == pdu.MESSAGE
            serving.reader.take_message()
            assert_answers(tcp.peer, response(1, sop_instance))
        assert serving.wire.committed == (2, 2 * len(data_set))
        ((path, file),) = files(tmp_path).items()
    assert path == f"{study}/{series}/{sop_instance}.dcm"
    assert file.endswith(data_set)


# What fails is the owner's.


def test_a_file_that_is_there_and_must_not_be_replaced(tcp: Connection, tmp_path: Path) -> None:
    sent = ordinary(1, b"new!")
    (tmp_path / sent.path).parent.mkdir(parents=True)
    (tmp_path / sent.path).write_bytes(b"before")
    with committing(tcp, tmp_path, replace=False) as serving:
        tcp.peer.sendall(sent.stream + ordinary(2).stream + vectors.ECHO)
        assert serving.serve() == pdu.STORE
        assert (tmp_path / sent.path).read_bytes() == b"before"
        assert list(files(tmp_path)) == [sent.path]
        (tmp_path / sent.path).unlink()
        fail_by_hand(serving, sent, tmp_path, errno.EEXIST)
        assert serving.serve() == pdu.MESSAGE
        serving.assert_committed(ordinary(2))
        assert_answers(tcp.peer, sent.answer(0xA700) + ordinary(2).answer())


def fail_by_hand(serving: Serving, sent: Sent, root: Path, error: int) -> None:
    """The instance of a STORE is whole, and whoever commits it is told what failed, though it would not any more: after an fsync that
    failed a second one says that all is well."""
    instance = serving.take(0xA700)
    assert b"".join(instance.segments()).endswith(sent.data_set)
    with opened(root) as root_fd:
        committer = FileCommitter(root_fd, b"incoming", replace=False, fsync=True)
        for _ in range(2):
            with pytest.raises(OSError) as raised:
                committer.commit(instance, -1, b"incoming/by hand", sent.path.encode())
            assert raised.value.errno == error
    instance.release()
    assert not list((root / "incoming").iterdir())


def in_place_of_the_file(root: Path, sent: Sent) -> Callable[[], None]:
    (root / sent.path).mkdir(parents=True)
    return (root / sent.path).rmdir


def in_place_of_the_series(root: Path, sent: Sent) -> Callable[[], None]:
    series = (root / sent.path).parent
    series.parent.mkdir(parents=True)
    series.write_bytes(b"")
    return series.unlink


def no_temporary_directory(root: Path, sent: Sent) -> Callable[[], None]:
    (root / "incoming").rmdir()
    return (root / "incoming").mkdir


def a_temporary_file_of_somebody(root: Path, sent: Sent) -> Callable[[], None]:
    (root / "incoming/0").write_bytes(b"theirs")
    return (root / "incoming/0").unlink


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (in_place_of_the_file, errno.EISDIR),
        (in_place_of_the_series, errno.ENOTDIR),
        (no_temporary_directory, errno.ENOENT),
        (a_temporary_file_of_somebody, errno.EEXIST),
    ],
)
def test_something_in_the_way(tcp: Connection, tmp_path: Path, fault: Callable[[Path, Sent], Callable[[], None]], error: int) -> None:
    sent = ordinary(1, bytes(100_000))
    with committing(tcp, tmp_path) as serving:
        remove = fault(tmp_path, sent)
        before = sorted(tmp_path.rglob("*"))
        tcp.peer.sendall(sent.stream + ordinary(2).stream + vectors.ECHO)
        assert serving.serve() == pdu.STORE
        assert sorted(tmp_path.rglob("*")) == before
        remove()
        fail_by_hand(serving, sent, tmp_path, error)
        assert serving.serve() == pdu.MESSAGE
        serving.assert_committed(ordinary(2))
        assert_answers(tcp.peer, sent.answer(0xA700) + ordinary(2).answer())
        assert list(files(tmp_path)) == [ordinary(2).path]


@pytest.mark.requires_linux
def test_a_file_system_that_is_full(tcp: Connection, tmp_path: Path, beside: Callable[..., Any]) -> None:
    """What does not fit is the owner's, as often as it comes; what fits is committed."""
    large, small = ordinary(1, bytes(2_000_000)), ordinary(2, bytes(200_000))
    with mounted(tmp_path, "size=1m"), committing(tcp, tmp_path) as serving:
        beside(tcp.peer.sendall, (large.stream + small.stream) * 2 + vectors.ECHO)
        for _ in range(2):
            assert serving.serve() == pdu.STORE
            instance = serving.take(0xA700)
            assert b"".join(instance.segments()).endswith(large.data_set)
            instance.release()
            assert not list((tmp_path / "incoming").iterdir())
        assert serving.serve() == pdu.MESSAGE
        serving.assert_committed(small, small)
        assert_answers(tcp.peer, (large.answer(0xA700) + small.answer()) * 2)
        assert list(files(tmp_path)) == [small.path]
        assert (tmp_path / small.path).read_bytes().endswith(small.data_set)


@pytest.mark.requires_linux
def test_a_directory_that_is_read_only(tcp: Connection, tmp_path: Path) -> None:
    sent = ordinary(1)
    with committing(tcp, tmp_path) as serving:
        tmp_path.chmod(0o555)
        (tmp_path / "incoming").chmod(0o777)
        tcp.peer.sendall(sent.stream + ordinary(2).stream + vectors.ECHO)
        try:
            with without_privileges():
                assert serving.serve() == pdu.STORE
        finally:
            tmp_path.chmod(0o755)
        assert files(tmp_path) == {}
        fail_by_hand(serving, sent, tmp_path, errno.EACCES)
        assert serving.serve() == pdu.MESSAGE
        serving.assert_committed(ordinary(2))
