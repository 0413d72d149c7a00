# cython: language_level=3
"""Commit of a received instance to a file, in one call without the interpreter lock.

Enters: an instance and two names. Leaves: a durable file under the final name, or nothing. Never: a half file under it.
"""

from libc.errno cimport EEXIST, EINTR, ENAMETOOLONG, ENOENT, errno
from libc.string cimport memcpy, strcmp, strrchr

from fastscp._ext.part10 cimport Instance

cdef extern from "<fcntl.h>" nogil:
    int O_CREAT, O_EXCL, O_WRONLY, O_RDONLY, O_CLOEXEC, O_DIRECTORY
    int openat(int directory_fd, const char *path, int flags, ...)

cdef extern from "<sys/stat.h>" nogil:
    int mkdirat(int directory_fd, const char *path, unsigned int mode)

cdef extern from "<stdio.h>" nogil:
    int renameat(int from_fd, const char *from_path, int to_fd, const char *to_path)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int c_fsync "fsync"(int fd)
    int linkat(int from_fd, const char *from_path, int to_fd, const char *to_path, int flags)
    int unlinkat(int directory_fd, const char *path, int flags)

cdef enum:
    PATH_BYTES = 4096
    FILE_MODE = 0o640
    DIRECTORY_MODE = 0o750


cdef int _sync_directory(int root_fd, const char *path) noexcept nogil:
    cdef int error = 0
    cdef int fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if fd < 0:
        return errno
    if c_fsync(fd) < 0:
        error = errno
    close(fd)
    return error


cdef int _parent(char *parent, const char *path) noexcept nogil:
    # The directory of `path`, "." at the top; 0 or errno.
    cdef const char *slash = strrchr(path, c"/")
    cdef size_t length_bytes = 0 if slash is NULL else <size_t>(slash - path)
    if length_bytes >= PATH_BYTES:
        return ENAMETOOLONG
    if length_bytes == 0:
        parent[0] = c"."
        length_bytes = 1
    else:
        memcpy(parent, path, length_bytes)
    parent[length_bytes] = 0
    return 0


cdef int _make_directories(int root_fd, const char *path) noexcept nogil:
    # The directories above `path`; 0 or errno.
    cdef char parent[PATH_BYTES]
    cdef int error = _parent(parent, path)
    if error or strcmp(parent, ".") == 0:
        return error
    if mkdirat(root_fd, parent, DIRECTORY_MODE) < 0 and errno != EEXIST:
        if errno != ENOENT:
            return errno
        error = _make_directories(root_fd, parent)
        if error:
            return error
        if mkdirat(root_fd, parent, DIRECTORY_MODE) < 0 and errno != EEXIST:
            return errno
    return 0


cdef int _sync_above(int root_fd, const char *path, bint ancestors) noexcept nogil:
    # The directory of `path`, and those above it up to the root; 0 or errno.
    cdef char parent[PATH_BYTES]
    cdef int error = _parent(parent, path)
    if error == 0:
        error = _sync_directory(root_fd, parent)
    if error == 0 and ancestors and strcmp(parent, ".") != 0:
        error = _sync_above(root_fd, parent, True)
    return error


cdef int _place(int root_fd, const char *temporary_path, const char *final_path, bint replace) noexcept nogil:
    if replace:
        return 0 if renameat(root_fd, temporary_path, root_fd, final_path) == 0 else errno
    # link and not rename: it alone refuses an existing name in one step, on every file system and system.
    if linkat(root_fd, temporary_path, root_fd, final_path, 0) < 0:
        return errno
    unlinkat(root_fd, temporary_path, 0)
    return 0


cdef int _commit(
    Instance instance,
    int fd,
    int root_fd,
    const char *temporary_path,
    const char *final_path,
    bint replace,
    bint fsync,
    bint fsync_ancestors,
) noexcept nogil:
    cdef int error = 0
    if fd < 0:
        fd = openat(root_fd, temporary_path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, FILE_MODE)
        if fd < 0:
            return errno
    error = instance.write_front(fd, instance.held_bytes())
    if error == 0 and fsync and c_fsync(fd) < 0:
        error = errno
    if close(fd) < 0 and error == 0 and errno != EINTR:
        error = errno
    if error == 0:
        error = _place(root_fd, temporary_path, final_path, replace)
        if error == ENOENT:
            # First of its series, or somebody removed the directory meanwhile: cheaper than asking each time.
            error = _make_directories(root_fd, final_path)
            fsync_ancestors = True
            if error == 0:
                error = _place(root_fd, temporary_path, final_path, replace)
    if error:
        unlinkat(root_fd, temporary_path, 0)
        return error
    if fsync:
        error = _sync_above(root_fd, final_path, fsync_ancestors)
        if error and not replace:
            # What is refused must not be in the way when it is sent again.
            unlinkat(root_fd, final_path, 0)
    return error


def commit_file(
    Instance instance not None,
    int temporary_fd,
    int root_fd,
    bytes temporary_path not None,
    bytes final_path not None,
    *,
    bint replace,
    bint fsync,
    bint fsync_ancestors,
):
    cdef const char *temporary = temporary_path
    cdef const char *final = final_path
    cdef int error
    try:
        if b"\0" in temporary_path or b"\0" in final_path:
            raise ValueError("a path holds a NUL")
        instance._check_usable()
        if instance.first is NULL and instance.held_bytes():
            raise ValueError("the instance holds no memory")
    except ValueError:
        if temporary_fd >= 0:
            close(temporary_fd)
        raise
    # Counted as a view, so that no other thread can take the memory away meanwhile.
    instance.export_count += 1
    with nogil:
        error = _commit(instance, temporary_fd, root_fd, temporary, final, replace, fsync, fsync_ancestors)
    instance.export_count -= 1
    if error:
        raise OSError(error, "cannot commit the instance", final_path)
