"""Commit to a file: whole under its final name, or not there.

Enters: instances, and file systems that are full, read-only, or in the way. Leaves: files. Never: a half file under a final name.
"""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.files import FileCommitter
from fastscp._ext.memory import BufferPool
from reference import traffic
from reference.driving import Limits, native_reader
from reference.filesystems import mounted, opened, without_privileges


def received(pixels: bytes = b"\1\2\3\4", pool: BufferPool | None = None) -> Any:
    reader = native_reader(pool or BufferPool(1 << 28))
    stream = traffic.store(1, traffic.data_set(pixels=pixels), pdv_bytes=60_000)
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    return reader.take_instance()


def whole(instance: Any) -> bytes:
    return b"".join(bytes(view) for view in instance.segments())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def commit(instance: Any, root: Path, final: str, *, temporary: str = "temporary", fd: int = -1, **options: bool) -> None:
    with opened(root) as root_fd:
        committer = FileCommitter(root_fd, b".", **{"replace": True, "fsync": True, **options})
        committer.commit(instance, fd, temporary.encode(), final.encode())


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("fsync", [True, False])
@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("size", [0, 70_000, 5_000_000])
def test_the_file_is_the_instance(root: Path, size: int, replace: bool, fsync: bool) -> None:
    instance = received(random.Random(size).randbytes(size))
    commit(instance, root, "1.2/1.2.3/1.2.3.4.dcm", replace=replace, fsync=fsync)
    assert (root / "1.2/1.2.3/1.2.3.4.dcm").read_bytes() == whole(instance)
    assert [path.name for path in root.rglob("*")] == ["1.2", "1.2.3", "1.2.3.4.dcm"]
    instance.release()


def test_who_may_read_what_is_made(root: Path) -> None:
    before = os.umask(0)
    try:
        commit(received(), root, "study/series/file")
    finally:
        os.umask(before)
    assert (root / "study/series/file").stat().st_mode & 0o777 == 0o640
    assert (root / "study/series").stat().st_mode & 0o777 == 0o750
    assert (root / "study").stat().st_mode & 0o777 == 0o750


def test_an_existing_file_is_replaced(root: Path) -> None:
    (root / "final").write_bytes(b"before")
    instance = received()
    commit(instance, root, "final", replace=True)
    assert (root / "final").read_bytes() == whole(instance)
    assert [path.name for path in root.iterdir()] == ["final"]


def test_an_existing_file_is_kept(root: Path) -> None:
    (root / "final").write_bytes(b"before")
    with pytest.raises(FileExistsError):
        commit(received(), root, "final", replace=False)
    assert (root / "final").read_bytes() == b"before"
    assert [path.name for path in root.iterdir()] == ["final"]


def test_a_temporary_file_that_is_there_belongs_to_somebody(root: Path) -> None:
    (root / "temporary").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        commit(received(), root, "final")
    assert (root / "temporary").read_bytes() == b"theirs"
    assert not (root / "final").exists()


@pytest.mark.parametrize("depth", [1, 2, 20])
def test_missing_directories_are_made(root: Path, depth: int) -> None:
    final = "/".join(str(level) for level in range(depth)) + "/file"
    commit(received(), root, final)
    assert (root / final).is_file()


def test_a_missing_directory_may_begin_with_a_dot(root: Path) -> None:
    commit(received(), root, ".hidden/file")
    assert (root / ".hidden/file").is_file()


def test_what_was_spilled_comes_first(root: Path) -> None:
    data = traffic.data_set(pixels=random.Random(1).randbytes(3_000_000))
    reader = native_reader(BufferPool(1 << 26), Limits(spill_threshold_bytes=1 << 20))
    stream = traffic.store(1, data)
    fd = os.open(root / "temporary", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    spills = 0
    while True:
        event, consumed = reader.feed(stream)
        stream = stream[consumed:]
        if event == pdu.STORE:
            break
        assert event == pdu.SPILL
        reader.instance.write_spillable(fd)
        spills += 1
    assert spills >= 2
    instance = reader.take_instance()
    assert 0 < instance.spilled_bytes < instance.file_bytes
    commit(instance, root, "study/file", fd=fd)
    assert not is_open(fd)
    file = (root / "study/file").read_bytes()
    assert file[instance.file_meta_bytes :] == data
    assert len(file) == instance.file_bytes
    assert sorted(path.name for path in root.rglob("*")) == ["file", "study"]


# Failures.


def assert_nothing_left(root: Path, final: str = "final") -> None:
    assert not (root / "temporary").exists()
    assert not (root / final).exists()


def test_a_file_where_a_directory_should_be(root: Path) -> None:
    (root / "study").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        commit(received(), root, "study/file")
    assert not (root / "temporary").exists()


def test_a_directory_under_the_final_name(root: Path) -> None:
    (root / "final").mkdir()
    with pytest.raises(IsADirectoryError):
        commit(received(), root, "final")
    assert not (root / "temporary").exists()
    with pytest.raises(FileExistsError):
        commit(received(), root, "final", replace=False)
    assert not (root / "temporary").exists()


@pytest.mark.parametrize("final", ["x" * 256, "x/" * 3000 + "file", "study/" + "x" * 256])
def test_a_name_that_is_too_long(root: Path, final: str) -> None:
    with pytest.raises(OSError) as raised:
        commit(received(), root, final)
    assert raised.value.errno == errno.ENAMETOOLONG
    assert not (root / "temporary").exists()


@pytest.mark.requires_linux
def test_a_device_that_is_full(root: Path) -> None:
    (root / "temporary").write_bytes(b"")
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError) as raised:
        commit(received(), root, "final", fd=fd)
    assert raised.value.errno == errno.ENOSPC
    assert not is_open(fd)
    assert_nothing_left(root)


@pytest.mark.requires_linux
def test_a_write_that_fails_drops_nothing(root: Path) -> None:
    data = traffic.data_set(pixels=bytes(range(256)) * 4000)
    reader = native_reader(BufferPool(1 << 26), Limits(spill_threshold_bytes=1 << 18))
    stream = traffic.store(1, data)
    event, consumed = reader.feed(stream)
    assert event == pdu.SPILL
    instance = reader.instance
    before = whole(instance)
    full = os.open("/dev/full", os.O_WRONLY)
    for fd, problem in ((full, errno.ENOSPC), (-1, errno.EBADF)):
        with pytest.raises(OSError, match=f"Errno {problem}"):
            instance.write_spillable(fd)
        assert instance.spilled_bytes == 0
        assert whole(instance) == before
    os.close(full)
    with (root / "spilled").open("wb", buffering=0) as file:
        instance.write_spillable(file.fileno())
        instance.spill_at_bytes = 1 << 30
        assert reader.feed(stream[consumed:])[0] == pdu.STORE
        file.write(whole(instance))
    assert (root / "spilled").read_bytes()[instance.file_meta_bytes :] == data


@pytest.mark.requires_linux
@pytest.mark.parametrize("spilled", [False, True])
def test_a_file_system_that_is_full(root: Path, spilled: bool) -> None:
    with mounted(root, "size=1m"):
        (root / "study").mkdir()
        (root / "study/file").write_bytes(b"before")
        before = os.statvfs(root).f_bfree
        instance = received(bytes(2_000_000))
        fd = os.open(root / "temporary", os.O_WRONLY | os.O_CREAT) if spilled else -1
        with pytest.raises(OSError) as raised:
            commit(instance, root, "study/file", fd=fd)
        assert raised.value.errno == errno.ENOSPC
        assert (root / "study/file").read_bytes() == b"before"
        assert not (root / "temporary").exists()
        assert os.statvfs(root).f_bfree == before
        small = received(bytes(500_000))
        commit(small, root, "study/file")
        assert (root / "study/file").read_bytes() == whole(small)


@pytest.mark.parametrize("closed", ["root", "final", "deep"])
def test_a_directory_that_is_read_only(root: Path, closed: str) -> None:
    root.chmod(0o777)
    (root / "study/series").mkdir(parents=True)
    for directory in (root / "study/series", root / "study"):
        directory.chmod(0o555)
    if closed == "root":
        root.chmod(0o555)
    try:
        with without_privileges(), pytest.raises(PermissionError):
            commit(received(), root, {"root": "final", "final": "study/series/final", "deep": "study/series/new/newer/final"}[closed])
    finally:
        for directory in (root, root / "study", root / "study/series"):
            directory.chmod(0o755)
    assert sorted(path.name for path in root.rglob("*")) == ["series", "study"]


def test_the_file_is_synced_where_asked_for(root: Path) -> None:
    """A pipe cannot be synced: whoever tries is told so."""
    for fsync in (False, True):
        (root / "temporary").write_bytes(b"")
        read_fd, write_fd = os.pipe()
        with pytest.raises(OSError, match=f"Errno {errno.EINVAL}") if fsync else nullcontext():
            commit(received(), root, "final", fd=write_fd, fsync=fsync)
        assert not is_open(write_fd)
        os.close(read_fd)
        assert not (root / "temporary").exists()


@pytest.mark.parametrize(
    ("unreadable", "known", "synced"),
    [("a/b", True, True), ("a", True, False), (".", True, False), ("a/b", False, True), ("a", False, True), (".", False, True)],
)
def test_the_directories_are_synced_where_asked_for(root: Path, unreadable: str, known: bool, synced: bool) -> None:
    """A directory has to be opened for reading to be synced; one that cannot be tells whether it was tried."""
    (root / "a/b").mkdir(parents=True)
    for directory in (root, root / "a", root / "a/b"):
        directory.chmod(0o777)
    with opened(root) as root_fd:
        committers = {fsync: FileCommitter(root_fd, b".", replace=True, fsync=fsync) for fsync in (False, True)}
        for committer in committers.values() if known else ():
            committer.commit(received(), -1, b"temporary", b"a/b/final")
            (root / "a/b/final").unlink()
        (root / unreadable).chmod(0o333)
        try:
            with without_privileges():
                for fsync, committer in committers.items():
                    try:
                        committer.commit(received(), -1, b"temporary", b"a/b/final")
                        assert not (fsync and synced)
                    except PermissionError:
                        assert fsync
                        assert synced
        finally:
            (root / unreadable).chmod(0o777)
    assert not (root / "temporary").exists()


@pytest.mark.parametrize("names", [(b"tem\0porary", b"final"), (b"temporary", b"fi\0nal")])
def test_a_nul_in_a_name(root: Path, names: tuple[bytes, bytes]) -> None:
    fd = os.open(root / "other", os.O_WRONLY | os.O_CREAT)
    with opened(root) as root_fd, pytest.raises(ValueError):
        FileCommitter(root_fd, b".", replace=True, fsync=True).commit(received(), fd, *names)
    assert not is_open(fd)
    assert [path.name for path in root.iterdir()] == ["other"]


def test_an_instance_without_memory_is_not_committed(root: Path) -> None:
    released = received()
    released.release()
    reader = native_reader(BufferPool(1 << 26), Limits(max_instance_bytes=10))
    reader.feed(traffic.store(1, traffic.data_set()))
    refused = reader.take_instance()
    assert refused.refusal == "too_large"
    for instance in (released, refused):
        fd = os.open(root / "temporary", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(ValueError):
            commit(instance, root, "final", fd=fd)
        assert not is_open(fd)
        assert not (root / "final").exists()


def test_no_descriptor_is_left_open(root: Path) -> None:
    instance = received()
    (root / "directory").mkdir()
    before = sorted(os.listdir("/dev/fd"))
    for final in ("a/b/final", "directory", "final", "directory/x" * 300):
        for replace in (True, False):
            try:
                commit(instance, root, final, replace=replace)
            except OSError:
                pass
    assert sorted(os.listdir("/dev/fd")) == before


# Never half.


def test_a_reader_never_sees_half_a_file(root: Path) -> None:
    instances = [received(bytes([number]) * size) for number, size in enumerate((10, 70_000, 400_000, 2_000_000))]
    allowed = {whole(instance) for instance in instances}
    done = threading.Event()
    commit(instances[0], root, "study/final")

    def write(instance: Any, name: str) -> None:
        for _ in range(40):
            commit(instance, root, "study/final", temporary=name, fsync=False)

    def read() -> int:
        seen = 0
        while not done.is_set():
            assert (root / "study/final").read_bytes() in allowed
            seen += 1
        return seen

    with ThreadPoolExecutor() as threads:
        reading = threads.submit(read)
        writing = [threads.submit(write, instance, f"temporary{number}") for number, instance in enumerate(instances)]
        try:
            for future in writing:
                future.result(100)
        finally:
            done.set()
        assert reading.result(100) > 0
    assert [path.name for path in root.rglob("*")] == ["study", "final"]


def test_of_many_who_must_not_replace_one_wins(root: Path) -> None:
    instances = [received(bytes([number]) * 100_000) for number in range(8)]

    def attempt(number: int) -> int | None:
        try:
            commit(instances[number], root, "study/series/final", temporary=f"temporary{number}", replace=False)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(len(instances)) as threads:
        (winner,) = [number for number in threads.map(attempt, range(len(instances))) if number is not None]
    assert (root / "study/series/final").read_bytes() == whole(instances[winner])
    assert sorted(path.name for path in root.rglob("*")) == ["final", "series", "study"]


KILLED = """
import os, sys
from pathlib import Path
from test_native_files import received, commit
instances = [received(bytes([number]) * (1 << 20 << number)) for number in range(3)]
print("ready", flush=True)
while True:
    for number, instance in enumerate(instances):
        commit(instance, Path(sys.argv[1]), "study/final", temporary=f"temporary-{os.getpid()}-{number}", fsync=False)
"""


def test_a_process_that_is_killed_leaves_no_half_file(root: Path) -> None:
    allowed = {whole(received(bytes([number]) * (1 << 20 << number))) for number in range(3)}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for seed in range(4):
        process = subprocess.Popen([sys.executable, "-c", KILLED, root], env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(random.Random(seed).uniform(0.02, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        assert not (root / "study/final").exists() or (root / "study/final").read_bytes() in allowed
