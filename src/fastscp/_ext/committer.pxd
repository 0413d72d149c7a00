# Commit without the interpreter lock: see committer.pyi for the contract.

from fastscp._ext.part10 cimport Instance, name_t

cdef class Committer:
    # Commits an ordinary instance that is whole and in memory: 0, or errno, which its owner is then told. Borrows both. Thread-safe.
    cdef int commit_ordinary(self, Instance instance, const name_t *name) noexcept nogil
