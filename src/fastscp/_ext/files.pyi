"""Commit of a received instance to a file, in one call without the interpreter lock.

Enters: an instance and two names. Leaves: a durable file under the final name, or nothing. Never: a half file under it.
"""

from fastscp._ext.part10 import Instance

def commit_file(
    instance: Instance,
    temporary_fd: int,
    root_fd: int,
    temporary_path: bytes,
    final_path: bytes,
    *,
    replace: bool,
    fsync: bool,
    fsync_ancestors: bool,
) -> None:
    """Write what is in memory of the instance, fsync, rename, fsync of the directory. Missing directories of the final name are made.

    Args:
        temporary_fd: an open file that holds what was spilled, or -1: then `temporary_path` is created (mode 0640, exclusive).
            Closed in every case.
        root_fd: an open directory; both paths are relative to it and on its file system.
        fsync_ancestors: also fsync the directories above the file's own, up to the root: for a file whose directories may be new.
        replace: False makes an existing final name a FileExistsError.
    Raises OSError; the temporary file is then gone and the final name untouched, but for one case: where the fsync of a directory fails,
        a file that replaces another has its final name already, and whether it keeps it after a crash is not known.
    """
