"""Instances as files: <root>/<StudyInstanceUID>/<SeriesInstanceUID>/<SOPInstanceUID>.dcm.

Enters: instances. Leaves: files that are durable under their final name before `commit` returns.
Never: a half file under a final name, whatever stops the process.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path

from fastscp._ext.committer import Committer
from fastscp._ext.files import FileCommitter
from fastscp._ext.part10 import Instance
from fastscp.errors import ConfigError, RefusedError, StoreError
from fastscp.stores.base import InstanceName, Origin

INCOMING = ".incoming"
"""Directory for what is not committed yet, under the root so that a rename can commit it."""

SPILL_FROM_BYTES = 2 << 20
"""What is longer begins to go to its file while it arrives. Nothing is won by waiting, as there is with S3: one PUT instead of parts
(benchmarks: work "big-file-1", rate x 1.05, and 4 MB of memory instead of 18, beside beginning at 16 MiB)."""

SPILL_AT_BYTES = 512 << 10
"""Once an instance goes to its file while it arrives, this much at a time: enough that the system calls do not count, and little enough
to be in the processor's cache still (benchmarks: work "big-file-1")."""

_COMMENTS = {
    errno.ENOSPC: "The storage is full",
    errno.EDQUOT: "The storage quota is exceeded",
    errno.EROFS: "The storage is read-only",
    errno.EACCES: "The storage does not permit writing",
    errno.EIO: "The storage has a fault",
}


class FileStore:
    """A directory tree on one file system.

    Not yet committed files are in a directory of this process under `INCOMING`, locked for as long as the process lives;
    directories whose lock is free were left by a crash and are removed at the start.
    """

    spill_from_bytes = SPILL_FROM_BYTES

    def __init__(self, root: Path, *, fsync: bool, replace: bool) -> None:
        """
        Args:
            fsync: whether file and directory reach the disk before a commit returns; otherwise that is left to the operating system.
            replace: whether an instance that exists is overwritten; otherwise it is refused with 0xC000.
        Raises ConfigError where the directory cannot be made or written to.
        """
        try:
            _make_durable(root)
            incoming = root / INCOMING
            incoming.mkdir(mode=0o750, exist_ok=True)
            self._temporary, self._lock_fd = _claim_directory(incoming)
            self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigError("--store", f"cannot write to {root}: {error.strerror}") from error
        temporary_directory = f"{INCOMING}/{self._temporary.name}".encode()
        self._files = FileCommitter(self._root_fd, temporary_directory, replace=replace, fsync=fsync)

    @property
    def committer(self) -> Committer | None:
        """Commits ordinary instances as `commit` does."""
        return self._files

    def for_association(self, origin: Origin) -> "FileStore":
        """The store itself: files do not say where they come from."""
        return self

    def commit(self, instance: Instance, name: InstanceName) -> None:
        """Write the file, make it durable, give it its name."""
        self._commit(instance, -1, self._files.new_temporary_path(), name)

    def begin_upload(self, instance: Instance) -> "FileUpload":
        """Open a temporary file."""
        temporary_path = self._files.new_temporary_path()
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            fd = os.open(temporary_path, flags, 0o640, dir_fd=self._root_fd)
        except OSError as error:
            raise _store_error(error) from error
        return FileUpload(self, fd, temporary_path)

    def close(self) -> None:
        """Remove this process's directory of temporary files."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        os.close(self._lock_fd)
        os.close(self._root_fd)

    def _commit(self, instance: Instance, fd: int, temporary_path: bytes, name: InstanceName) -> None:
        final_path = f"{name.study_instance_uid}/{name.series_instance_uid}/{name.sop_instance_uid}.dcm".encode()
        try:
            self._files.commit(instance, fd, temporary_path, final_path)
        except FileExistsError as error:
            raise RefusedError(0xC000, "duplicate", "The SOP Instance is stored already", 0x00080018) from error
        except OSError as error:
            raise _store_error(error) from error

    def _discard(self, fd: int, temporary_path: bytes) -> None:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(temporary_path, dir_fd=self._root_fd)


class FileUpload:
    """A temporary file that an instance goes to while it arrives. Owns the descriptor."""

    def __init__(self, store: FileStore, fd: int, temporary_path: bytes) -> None:
        self._store = store
        self._fd = fd
        self._temporary_path = temporary_path

    def spill(self, instance: Instance) -> None:
        """Append what can leave memory to the temporary file."""
        try:
            instance.write_spillable(self._fd)
        except OSError as error:
            raise _store_error(error) from error
        instance.spill_at_bytes = SPILL_AT_BYTES
        instance.spill_to(self._fd)

    def commit(self, instance: Instance, name: InstanceName) -> None:
        """Append the rest, make it durable, give it its name."""
        # The committer closes the descriptor and removes the temporary file, whatever happens.
        self._store._commit(instance, self._fd, self._temporary_path, name)

    def abandon(self) -> None:
        """Remove the temporary file."""
        self._store._discard(self._fd, self._temporary_path)


def _store_error(error: OSError) -> StoreError:
    comment = _COMMENTS.get(error.errno or 0, "The storage failed")
    return StoreError(comment, f"{errno.errorcode.get(error.errno or 0, 'unknown error')}: {os.strerror(error.errno or 0)}")


def _make_durable(root: Path) -> None:
    made = [directory for directory in (root, *root.parents) if not directory.exists()]
    root.mkdir(parents=True, exist_ok=True)
    for directory in made:
        fd = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _claim_directory(incoming: Path) -> tuple[Path, int]:
    # One process at a time: a directory must not be taken for left over between its making and its locking.
    incoming_fd = os.open(incoming, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(incoming_fd, fcntl.LOCK_EX)
        _remove_left_over(incoming)
        directory = incoming / f"{os.getpid()}-{os.urandom(4).hex()}"
        directory.mkdir(mode=0o750)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return directory, fd
    finally:
        os.close(incoming_fd)


def _remove_left_over(incoming: Path) -> None:
    for directory in incoming.iterdir():
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            continue  # Its owner has just removed it, or it is nothing of ours.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # Its process is alive.
        else:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(fd)
