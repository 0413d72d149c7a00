# cython: language_level=3
"""Commit of ordinary instances without the interpreter lock.

Enters: an instance with nothing unusual about it. Leaves: a commit, or an errno. Never: an explanation; that is the owner's.
"""

cimport cython
from libc.errno cimport ENOSYS


@cython.no_gc
cdef class Committer:
    """See committer.pyi."""

    cdef int commit_ordinary(self, Instance instance, const name_t *name) noexcept nogil:
        return ENOSYS


@cython.final
@cython.no_gc
cdef class NullCommitter(Committer):
    """See committer.pyi."""

    cdef int commit_ordinary(self, Instance instance, const name_t *name) noexcept nogil:
        return 0
