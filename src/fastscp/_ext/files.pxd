# Files: see files.pyi for the contract.

from libc.stdint cimport uint64_t

from fastscp._ext.committer cimport Committer
from fastscp._ext.mutex cimport pthread_mutex_t
from fastscp._ext.part10 cimport Instance

cdef enum:
    DIRECTORY_BYTES = 136      # holds a study and a series, 64 bytes each

# A directory that is known to be on the disk; empty where there is none.
cdef struct known_t:
    char directory[DIRECTORY_BYTES]

cdef class FileCommitter(Committer):
    cdef int root_fd                           # borrowed
    cdef char temporary_directory[DIRECTORY_BYTES]
    cdef bint replace
    cdef bint fsync
    cdef bint initialised
    cdef pthread_mutex_t lock                  # guards everything below
    cdef uint64_t next_number
    cdef known_t *known                        # owned, KNOWN_DIRECTORIES; a directory has one place, which another may take

    cdef uint64_t _next_number(self) noexcept nogil
    cdef bint _is_known(self, const char *directory) noexcept nogil
    cdef void _remember(self, const char *directory) noexcept nogil
    cdef void _forget(self, const char *directory) noexcept nogil
    # The temporary file, on the disk; nothing of it where that fails. Closes `fd`, or makes the file where it is -1; 0, or errno.
    cdef int _write(self, Instance instance, int fd, const char *temporary_path) noexcept nogil
    # Closes `fd`, if there is one; 0, or errno.
    cdef int _commit_to(self, Instance instance, int fd, const char *temporary_path, const char *final_path) noexcept nogil
