"""Commit of received instances to files, without the interpreter lock.

Enters: an instance and its name. Leaves: a durable file under the final name, or nothing. Never: a half file under it.
"""

from typing import final

from fastscp._ext.committer import Committer
from fastscp._ext.part10 import Instance

@final
class FileCommitter(Committer):
    """Commits instances to files below one directory: write, fsync, rename, fsync of the directory. Thread-safe.

    Missing directories of the final name are made. Those of the last 2,000 or so that it has seen reach the disk are remembered; for any
    other directory those above it are synced too, up to the root: whoever finds one cannot know how far the one that made it has come.
    Ordinary instances get the name <StudyInstanceUID>/<SeriesInstanceUID>/<SOPInstanceUID>.dcm.
    """

    def __init__(self, root_fd: int, temporary_directory: bytes, *, replace: bool, fsync: bool) -> None:
        """
        Args:
            root_fd: an open directory, which stays open as long as this is used; all paths are relative to it and on its file system.
            temporary_directory: for files without their final name; nobody else's, at most 135 bytes.
            replace: False makes an existing final name a FileExistsError.
            fsync: whether file and directories reach the disk before a commit returns.
        """

    def new_temporary_path(self) -> bytes:
        """A path in the temporary directory that was not given before."""

    def commit(self, instance: Instance, temporary_fd: int, temporary_path: bytes, final_path: bytes) -> None:
        """Write what is in memory of the instance and give the file its name.

        Where `Wire.serve` has tried that in vain, or has failed to write a part of it, that error is raised and nothing is tried again: the
        second fsync after one that failed would say that all is well.

        Args:
            temporary_fd: an open file that holds what was spilled, or -1: then `temporary_path` is created (mode 0640, exclusive).
                Closed in every case.
        Raises OSError; the temporary file is then gone and the final name untouched, but for one case: where the fsync of a directory
            fails, a file that replaces another has its final name already, and whether it keeps it after a crash is not known.
        """
