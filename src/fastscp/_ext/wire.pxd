# The socket under a MessageReader: see wire.pyi for the contract.

from libc.stdint cimport int64_t

from fastscp._ext.committer cimport Committer
from fastscp._ext.dimse cimport RESPONSE_CEILING_BYTES
from fastscp._ext.pdu cimport MessageReader, event
from fastscp._ext.tally cimport Sender, StoredTally

cdef class Wire:
    cdef int fd                            # borrowed
    cdef int wake_fd                       # borrowed; -1 where it is not looked at
    cdef MessageReader reader
    cdef size_t progress_bytes
    cdef int64_t progress_ns
    cdef size_t peer_max_pdu
    cdef bint closed_cleanly
    cdef unsigned char queued[RESPONSE_CEILING_BYTES]
    cdef size_t queued_bytes
    cdef Committer committer               # None where every instance is left to the owner
    cdef StoredTally tally
    cdef Sender sender
    cdef bint left_to_owner                # another thread may set it at any time
    cdef size_t committed_count
    cdef size_t committed_data_bytes

    cdef event _receive(self, int64_t idle_ns, int64_t total_ns) noexcept nogil
    cdef event _serve(self, int64_t idle_ns) noexcept nogil
    # Whether the instance that is complete was committed, and the answer queued.
    cdef bint _commit(self) noexcept nogil
    cdef event _wait_for_data(self, int64_t idle_until_ns, int64_t until_ns) noexcept nogil
    # 0, or errno; ETIMEDOUT where the peer takes nothing.
    cdef int _send_all(self, const unsigned char *data, size_t length_bytes) noexcept nogil
