"""The file store: layout, duplicates, what reaches the disk, what a crash leaves, and names that never leave the root.

Enters: instances, processes that are killed. Leaves: whole files under final names. Never: an acknowledged instance that is not there.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from fastscp.errors import ConfigError, RefusedError, StoreError
from fastscp.stores import InstanceName
from fastscp.stores.file import INCOMING, FileStore
from reference import traffic
from reference.driving import Limits, native_reader
from tests.stores.traced import told

NAME = InstanceName("1.2", "1.2.3", "1.2.3.4")


def received(pixels: bytes = b"\1\2\3\4") -> Any:
    reader = native_reader(BufferPool(1 << 26))
    stream = traffic.store(1, traffic.data_set(pixels=pixels), pdv_bytes=60_000)
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    return reader.take_instance()


def whole(instance: Any) -> bytes:
    return b"".join(bytes(view) for view in instance.segments())


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    opened = FileStore(tmp_path, fsync=True, replace=True)
    yield opened
    opened.close()


def test_the_layout(tmp_path: Path, store: FileStore) -> None:
    instance = received()
    store.commit(instance, NAME)
    assert files(tmp_path) == {"1.2/1.2.3/1.2.3.4.dcm": whole(instance)}


def test_the_root_is_made_and_close_leaves_only_instances(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    store = FileStore(root, fsync=False, replace=True)
    assert len(list((root / INCOMING).iterdir())) == 1
    store.commit(received(), NAME)
    store.close()
    assert list((root / INCOMING).iterdir()) == []
    assert list(files(root)) == ["1.2/1.2.3/1.2.3.4.dcm"]


def test_overwrite(tmp_path: Path, store: FileStore) -> None:
    first, second = received(b"first"), received(b"second")
    store.commit(first, NAME)
    store.commit(second, NAME)
    assert files(tmp_path) == {"1.2/1.2.3/1.2.3.4.dcm": whole(second)}


def spilled(store: FileStore, pixels: bytes) -> tuple[Any, Any]:
    """An instance and its upload, part of which has left memory."""
    reader = native_reader(BufferPool(1 << 26), Limits(spill_threshold_bytes=1 << 20))
    stream = traffic.store(1, traffic.data_set(pixels=pixels), pdv_bytes=60_000)
    upload = None
    while True:
        event, consumed = reader.feed(stream)
        stream = stream[consumed:]
        if event == pdu.STORE:
            assert upload is not None
            return reader.take_instance(), upload
        assert event == pdu.SPILL
        upload = upload or store.begin_upload(reader.instance)
        upload.spill(reader.instance)


@pytest.mark.parametrize("existing", [False, True])
def test_an_upload(tmp_path: Path, store: FileStore, existing: bool) -> None:
    if existing:
        store.commit(received(), NAME)
    pixels = random.Random(1).randbytes(5 << 20)
    instance, upload = spilled(store, pixels)
    assert instance.spilled_bytes > 0
    upload.commit(instance, NAME)
    ((name, file),) = files(tmp_path).items()
    assert name == "1.2/1.2.3/1.2.3.4.dcm"
    assert file.endswith(traffic.data_set(pixels=pixels))


def test_an_upload_that_is_abandoned(tmp_path: Path, store: FileStore) -> None:
    before = set(os.listdir("/proc/self/fd"))
    instance, upload = spilled(store, bytes(3 << 20))
    upload.abandon()
    instance.release()
    assert files(tmp_path) == {}
    assert set(os.listdir("/proc/self/fd")) == before


def test_abandoning_does_not_raise(tmp_path: Path, store: FileStore) -> None:
    """Also where somebody has removed the temporary file."""
    _, upload = spilled(store, bytes(3 << 20))
    shutil.rmtree(tmp_path / INCOMING)
    upload.abandon()


@pytest.mark.parametrize("large", [False, True])
def test_reject(tmp_path: Path, large: bool) -> None:
    store = FileStore(tmp_path, fsync=False, replace=False)
    first = received(b"first")
    store.commit(first, NAME)
    if large:
        instance, upload = spilled(store, bytes(3 << 20))
        with pytest.raises(RefusedError) as refused:
            upload.commit(instance, NAME)
    else:
        with pytest.raises(RefusedError) as refused:
            store.commit(received(b"second"), NAME)
    assert (refused.value.status, refused.value.reason, refused.value.offending_element) == (0xC000, "duplicate", 0x00080018)
    assert files(tmp_path) == {"1.2/1.2.3/1.2.3.4.dcm": whole(first)}
    store.close()


def test_of_eight_with_one_name_exactly_one_is_taken(tmp_path: Path) -> None:
    store = FileStore(tmp_path, fsync=True, replace=False)
    for round_ in range(10):
        instances = [received(bytes([number]) * 200_000) for number in range(8)]
        name = NAME._replace(sop_instance_uid=f"1.2.3.{round_}")

        def attempt(instance: Any, name: InstanceName = name) -> Any:
            try:
                store.commit(instance, name)
            except RefusedError as refused:
                return None if refused.reason == "duplicate" else refused
            return instance

        with ThreadPoolExecutor(8) as threads:
            (winner,) = [instance for instance in threads.map(attempt, instances) if instance is not None]
        assert (tmp_path / f"1.2/1.2.3/1.2.3.{round_}.dcm").read_bytes() == whole(winner)
    assert len(files(tmp_path)) == 10
    store.close()


@pytest.mark.parametrize("what", ["series", "study", "root contents"])
def test_directories_that_vanish_under_a_running_store(tmp_path: Path, store: FileStore, what: str) -> None:
    """Somebody tidies up. What comes next is stored, or refused as a fault of the storage; it is never Success without the file."""
    store.commit(received(), NAME)
    if what == "series":
        shutil.rmtree(tmp_path / "1.2/1.2.3")
    else:
        shutil.rmtree(tmp_path / "1.2")
    again = NAME._replace(sop_instance_uid="1.2.3.5")
    instance = received()
    if what == "root contents":
        shutil.rmtree(tmp_path / INCOMING)
        with pytest.raises(StoreError):
            store.commit(instance, again)
        assert files(tmp_path) == {}
    else:
        store.commit(instance, again)
        assert files(tmp_path) == {"1.2/1.2.3/1.2.3.5.dcm": whole(instance)}


def test_directories_that_vanish_while_others_write(tmp_path: Path, store: FileStore) -> None:
    stop = False

    def tidy() -> None:
        while not stop:
            shutil.rmtree(tmp_path / "1.2", ignore_errors=True)

    with ThreadPoolExecutor(1) as threads:
        tidying = threads.submit(tidy)
        try:
            for number in range(200):
                # Success or a fault of the storage; anything else fails the test.
                with contextlib.suppress(StoreError):
                    store.commit(received(), NAME._replace(sop_instance_uid=f"1.2.3.{number}"))
        finally:
            stop = True
        tidying.result(30)
    shutil.rmtree(tmp_path / "1.2", ignore_errors=True)
    assert files(tmp_path) == {}, "a temporary file is left"
    store.commit(received(), NAME)
    assert list(files(tmp_path)) == ["1.2/1.2.3/1.2.3.4.dcm"]


@pytest.mark.parametrize("uid", ["0", "1" * 64, "1.2.840.10008", "00.01", "1..2"])
def test_key_safe_names_stay_below_the_root(tmp_path: Path, store: FileStore, uid: str) -> None:
    store.commit(received(), InstanceName(uid, uid, uid))
    assert list(files(tmp_path)) == [f"{uid}/{uid}/{uid}.dcm"]


def test_a_link_out_of_the_root_is_the_operators_choice_and_files_are_replaced_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.write_bytes(b"not ours")
    (root / "1.2/1.2.3").mkdir(parents=True)
    (root / "1.2/1.2.3/1.2.3.4.dcm").symlink_to(outside)
    store = FileStore(root, fsync=False, replace=True)
    store.commit(received(), NAME)
    store.close()
    assert outside.read_bytes() == b"not ours"
    assert not (root / "1.2/1.2.3/1.2.3.4.dcm").is_symlink()


# Who else uses the root.


def test_what_dead_processes_left_is_removed_and_what_living_ones_have_is_kept(tmp_path: Path) -> None:
    living = FileStore(tmp_path, fsync=False, replace=True)
    instance, upload = spilled(living, bytes(3 << 20))
    (tmp_path / INCOMING / "12345-dead").mkdir()
    (tmp_path / INCOMING / "12345-dead" / "7").write_bytes(b"half of it")
    another = FileStore(tmp_path, fsync=False, replace=True)
    assert not (tmp_path / INCOMING / "12345-dead").exists()
    assert len(list((tmp_path / INCOMING).iterdir())) == 2
    upload.commit(instance, NAME)
    assert len(files(tmp_path)) == 1
    living.close()
    another.commit(received(), NAME._replace(sop_instance_uid="9"))
    another.close()


def test_a_file_among_the_directories_of_processes_is_passed_over(tmp_path: Path) -> None:
    """Desktops and network file systems leave such files anywhere."""
    (tmp_path / INCOMING).mkdir()
    (tmp_path / INCOMING / ".DS_Store").write_bytes(b"")
    FileStore(tmp_path, fsync=False, replace=True).close()


def test_a_directory_that_its_owner_removes_while_another_process_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def with_one_that_has_gone(directory: Path) -> Iterator[Path]:
        yield from listed(directory)
        yield directory / "12345-gone"

    monkeypatch.setattr(Path, "iterdir", with_one_that_has_gone)
    FileStore(tmp_path, fsync=False, replace=True).close()


STARTING = """
import sys
from pathlib import Path
from fastscp.stores.file import FileStore
sys.stdin.readline()
for _ in range(40):
    FileStore(Path(sys.argv[1]), fsync=False, replace=True).close()
"""


def test_processes_that_start_and_stop_at_the_same_time(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    starting = [
        subprocess.Popen([sys.executable, "-c", STARTING, tmp_path], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for _ in range(4)
    ]
    for process in starting:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    problems = [process.communicate(timeout=60)[1].decode() for process in starting]
    assert [process.returncode for process in starting] == [0] * 4, problems


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="--store"):
        FileStore(tmp_path / "file" / "root", fsync=False, replace=True)
    with pytest.raises(ConfigError, match="--store"):
        FileStore(tmp_path / "file", fsync=False, replace=True)


# What reaches the disk, and a process that is killed.

COMMITTING = """
import sys
from pathlib import Path
from tests.stores.test_file_store import NAME, received, spilled
from fastscp.stores.file import FileStore
store = FileStore(Path(sys.argv[1]), fsync=sys.argv[2] == "yes", replace=True)
small = received()
instance, upload = spilled(store, bytes(3 << 20))
print("ready", flush=True)
store.commit(small, NAME)
upload.commit(instance, NAME._replace(sop_instance_uid="2"))
"""


@pytest.mark.requires_linux
@pytest.mark.parametrize("fsync", ["yes", "no"])
def test_what_is_synced_and_when(tmp_path: Path, fsync: str) -> None:
    """The file before it has its name, its directory and those above it after."""
    calls = told(COMMITTING, tmp_path, fsync)
    if fsync == "no":
        assert calls == ["name", "name"]
        return
    first, second = calls[: calls.index("file", 1)], calls[calls.index("file", 1) :]
    assert first[:2] == ["file", "name"]
    assert sorted(first[2:]) == ["/", "/1.2", "/1.2/1.2.3"]
    # The directories above are on the disk already.
    assert second == ["file", "name", "/1.2/1.2.3"]


KILLED = """
import sys
from pathlib import Path
from tests.stores.test_file_store import NAME, received, spilled
from fastscp.stores.file import FileStore
seed = int(sys.argv[2])
store = FileStore(Path(sys.argv[1]), fsync=True, replace=True)
pixels = [bytes([number]) * (20_000 << number) for number in range(4)]
print("ready", flush=True)
for number in range(1_000_000):
    name = NAME._replace(series_instance_uid=f"1.2.{seed}.{number % 5}", sop_instance_uid=f"1.2.{seed}.{number}")
    if number % 10 == 9:
        instance, upload = spilled(store, bytes(2 << 20))
        upload.commit(instance, name)
    else:
        instance = received(pixels[number % 4])
        store.commit(instance, name)
    print("/".join(name), instance.file_bytes, flush=True)
    instance.release()
"""


def test_a_process_that_is_killed_at_any_moment(tmp_path: Path) -> None:
    """Every instance that was acknowledged is whole; no half file has a final name; the next start removes the rest."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    left_over = acknowledged_count = 0
    for seed in range(8):
        process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, str(seed)], env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(lines) == "ready\n"
        # From one acknowledgement on, a random sub-millisecond delay: the steps of the next commit.
        acknowledged = [next(lines) for _ in range(15 + seed)]
        time.sleep(random.Random(seed).uniform(0, 0.001))
        process.send_signal(signal.SIGKILL)
        acknowledged += [line for line in lines if line.endswith("\n")]
        process.wait(60)
        process.stdout.close()
        acknowledged_count += len(acknowledged)
        sizes = {f"{name}.dcm": int(size) for name, size in (line.split() for line in acknowledged)}
        left_over += len([path for path in (tmp_path / INCOMING).rglob("*") if path.is_file()])
        FileStore(tmp_path, fsync=False, replace=True).close()
        stored = files(tmp_path)
        assert not [name for name in stored if name.startswith(INCOMING)]
        for name, size in sizes.items():
            assert len(stored[name]) == size, name
        for name, data in stored.items():
            assert data[128:132] == b"DICM", name
            pixels = data[data.rindex(b"\xe0\x7f\x10\x00OW\0\0") :]
            assert int.from_bytes(pixels[8:12], "little") == len(pixels) - 12, f"{name} is half a file"
    assert acknowledged_count > 100
