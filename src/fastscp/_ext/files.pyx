# cython: language_level=3
"""Commit of received instances to files, without the interpreter lock.

Enters: an instance and its name. Leaves: a durable file under the final name, or nothing. Never: a half file under it.
"""

cimport cython
from libc.errno cimport EEXIST, EINTR, ENAMETOOLONG, ENOENT, errno
from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strcmp, strlen, strrchr

from fastscp._ext.mutex cimport fastscp_mutex_init, pthread_mutex_destroy, pthread_mutex_lock, pthread_mutex_unlock
from fastscp._ext.part10 cimport Instance, name_t

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
    KNOWN_DIRECTORIES = 2048


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


cdef uint64_t _hash(const char *text) noexcept nogil:
    # FNV-1a. Only where to look: what is found there is compared.
    cdef uint64_t hashed = 14695981039346656037u
    while text[0]:
        hashed = (hashed ^ <unsigned char>text[0]) * 1099511628211u
        text += 1
    return hashed


# Line tracing (the coverage build) would want the interpreter lock while the committer's is held: not in what holds that.
@cython.final
@cython.no_gc
cdef class FileCommitter(Committer):
    """Files below one directory. See files.pyi."""

    def __cinit__(self, int root_fd, bytes temporary_directory not None, *, bint replace, bint fsync):
        if len(temporary_directory) >= DIRECTORY_BYTES or b"\0" in temporary_directory:
            raise ValueError("not a directory's name")
        memcpy(self.temporary_directory, <const char *>temporary_directory, len(temporary_directory))
        self.root_fd = root_fd
        self.replace = replace
        self.fsync = fsync
        self.known = <known_t *>calloc(KNOWN_DIRECTORIES, sizeof(known_t))
        if self.known is NULL:
            raise MemoryError
        fastscp_mutex_init(&self.lock)
        self.initialised = True

    def __dealloc__(self):
        if self.initialised:
            pthread_mutex_destroy(&self.lock)
        free(self.known)

    @cython.linetrace(False)
    cdef uint64_t _next_number(self) noexcept nogil:
        cdef uint64_t number
        pthread_mutex_lock(&self.lock)
        number = self.next_number
        self.next_number += 1
        pthread_mutex_unlock(&self.lock)
        return number

    @cython.linetrace(False)
    cdef bint _is_known(self, const char *directory) noexcept nogil:
        cdef known_t *place = &self.known[_hash(directory) % KNOWN_DIRECTORIES]
        cdef bint known
        pthread_mutex_lock(&self.lock)
        known = strcmp(place.directory, directory) == 0
        pthread_mutex_unlock(&self.lock)
        return known

    @cython.linetrace(False)
    cdef void _remember(self, const char *directory) noexcept nogil:
        cdef known_t *place = &self.known[_hash(directory) % KNOWN_DIRECTORIES]
        cdef size_t length_bytes = strlen(directory)
        if length_bytes >= DIRECTORY_BYTES:
            return  # Longer than a study and a series: synced each time.
        pthread_mutex_lock(&self.lock)
        memcpy(place.directory, directory, length_bytes + 1)
        pthread_mutex_unlock(&self.lock)

    @cython.linetrace(False)
    cdef void _forget(self, const char *directory) noexcept nogil:
        cdef known_t *place = &self.known[_hash(directory) % KNOWN_DIRECTORIES]
        pthread_mutex_lock(&self.lock)
        if strcmp(place.directory, directory) == 0:
            place.directory[0] = 0
        pthread_mutex_unlock(&self.lock)

    cdef int _write(self, Instance instance, int fd, const char *temporary_path) noexcept nogil:
        cdef int error = instance.store_error
        if fd < 0 and error == 0:
            fd = openat(self.root_fd, temporary_path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, FILE_MODE)
            if fd < 0:
                return errno
        if error == 0:
            error = instance.write_front(fd, instance.held_bytes())
        if error == 0 and self.fsync and c_fsync(fd) < 0:
            error = errno
        if fd >= 0 and close(fd) < 0 and error == 0 and errno != EINTR:
            error = errno
        if error and fd >= 0:
            unlinkat(self.root_fd, temporary_path, 0)
        return error

    cdef int _commit_to(self, Instance instance, int fd, const char *temporary_path, const char *final_path) noexcept nogil:
        cdef char directory[PATH_BYTES]
        cdef bint known
        cdef int error = self._write(instance, fd, temporary_path)
        if error:
            return error
        error = _parent(directory, final_path)
        if error == 0:
            error = _place(self.root_fd, temporary_path, final_path, self.replace)
            if error == ENOENT:
                # First of its series, or somebody removed the directory meanwhile: cheaper than asking each time. Forgotten before it is
                # there again, so that nobody else who finds it takes it for one that is on the disk.
                self._forget(directory)
                error = _make_directories(self.root_fd, final_path)
                if error == 0:
                    error = _place(self.root_fd, temporary_path, final_path, self.replace)
        if error:
            unlinkat(self.root_fd, temporary_path, 0)
            return error
        if self.fsync:
            known = self._is_known(directory)
            error = _sync_above(self.root_fd, final_path, not known)
            if error and not self.replace:
                # What is refused must not be in the way when it is sent again.
                unlinkat(self.root_fd, final_path, 0)
            if error == 0 and not known:
                self._remember(directory)
        return error

    cdef int commit_ordinary(self, Instance instance, const name_t *name) noexcept nogil:
        cdef char temporary_path[DIRECTORY_BYTES + 24]
        cdef char final_path[PATH_BYTES]
        snprintf(temporary_path, sizeof(temporary_path), "%s/%llu", self.temporary_directory, <unsigned long long>self._next_number())
        snprintf(
            final_path, sizeof(final_path), "%.*s/%.*s/%.*s.dcm",
            name.study_bytes, name.study, name.series_bytes, name.series, name.sop_instance_bytes, name.sop_instance,
        )
        return self._commit_to(instance, -1, temporary_path, final_path)

    def new_temporary_path(self):
        return b"%s/%d" % (<bytes>self.temporary_directory, self._next_number())

    def commit(self, Instance instance not None, int temporary_fd, bytes temporary_path not None, bytes final_path not None):
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
            error = self._commit_to(instance, temporary_fd, temporary, final)
        instance.export_count -= 1
        if error:
            raise OSError(error, "cannot commit the instance", final_path)
