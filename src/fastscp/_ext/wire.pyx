# cython: language_level=3
"""The socket under a MessageReader.

Enters: what the peer sends, each data set byte straight into the instance. Leaves: events and answers, ordinary instances committed.
Never: Success before the commit, holds the interpreter lock while it waits or copies, waits without a deadline.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, ETIMEDOUT, errno
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastscp._ext.dimse cimport response_encode
from fastscp._ext.lookahead cimport iovec, lookahead_take_aside
from fastscp._ext.part10 cimport Instance, name_t
from fastscp._ext.pdu cimport (
    EVENT_CLOSED,
    EVENT_NEED_DATA,
    EVENT_NO_MEMORY,
    EVENT_SPILL,
    EVENT_STORE,
    EVENT_TIMEOUT_IDLE,
    EVENT_TIMEOUT_STALLED,
    EVENT_WOKEN,
    MAX_TARGETS,
)

cdef extern from *:
    """
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    static inline void fastscp_acknowledge_now(int fd) {
    #ifdef TCP_QUICKACK
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
    #else
        (void)fd;
    #endif
    }
    """
    void fastscp_acknowledge_now(int fd) nogil

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    int MSG_DONTWAIT, MSG_NOSIGNAL
    ssize_t recvmsg(int fd, msghdr *message, int flags)
    ssize_t send(int fd, const void *data, size_t length, int flags)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    short POLLIN, POLLOUT
    int poll(pollfd *fds, unsigned long count, int timeout_ms)

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)


cdef int64_t FOREVER_NS = 31536000 * <int64_t>1000000000


cdef int64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef int64_t _nanoseconds(double seconds) except -1:
    if not seconds >= 0:  # nan neither
        raise ValueError("a time must not be negative")
    return min(<int64_t>(min(seconds, 1e9) * 1e9), FOREVER_NS)


cdef int _poll_ms(int64_t left_ns) noexcept nogil:
    # Rounded up: waking before the deadline would only mean waiting again.
    return <int>min((left_ns + 999999) // 1000000, <int64_t>1000000000)


@cython.final
@cython.no_gc
cdef class Wire:
    """One connected TCP socket and its reader. See wire.pyi."""

    def __cinit__(
        self,
        int fd,
        MessageReader reader not None,
        *,
        int wake_fd,
        size_t progress_bytes,
        double progress_s,
    ):
        self.fd = fd
        self.reader = reader
        self.wake_fd = wake_fd
        self.progress_bytes = progress_bytes
        self.progress_ns = _nanoseconds(progress_s)

    cdef int _send_all(self, const unsigned char *data, size_t length_bytes) noexcept nogil:
        cdef pollfd waiting
        cdef ssize_t sent
        cdef int ready
        while length_bytes:
            sent = send(self.fd, data, length_bytes, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent >= 0:
                data += sent
                length_bytes -= <size_t>sent
                continue
            if errno == EINTR:
                continue
            if errno != EAGAIN:
                return errno
            waiting.fd = self.fd
            waiting.events = POLLOUT
            ready = poll(&waiting, 1, _poll_ms(self.progress_ns))
            if ready == 0:
                return ETIMEDOUT
            if ready < 0 and errno != EINTR:
                return errno
        return 0

    cdef event _wait_for_data(self, int64_t idle_until_ns, int64_t until_ns) noexcept nogil:
        # Until there is something to read (NEED_DATA) or no reason to wait any more.
        cdef pollfd waiting[2]
        cdef bint idle = not self.reader.under_way()
        cdef int64_t left_ns
        cdef int ready
        waiting[0].fd = self.fd
        waiting[0].events = POLLIN
        waiting[1].fd = self.wake_fd
        waiting[1].events = POLLIN
        waiting[1].revents = 0
        while True:
            left_ns = (min(idle_until_ns, until_ns) if idle else until_ns) - _now_ns()
            if left_ns <= 0:
                return EVENT_TIMEOUT_IDLE if idle else EVENT_TIMEOUT_STALLED
            ready = poll(waiting, 2 if idle and self.wake_fd >= 0 else 1, _poll_ms(left_ns))
            if ready > 0:
                # Data before the wake: a message that has begun to arrive is received.
                return EVENT_NEED_DATA if waiting[0].revents else EVENT_WOKEN
            if ready < 0 and errno != EINTR:
                return EVENT_CLOSED

    cdef event _receive(self, int64_t idle_ns, int64_t total_ns) noexcept nogil:
        cdef iovec places[MAX_TARGETS]
        cdef msghdr message
        cdef int64_t start_ns = _now_ns()
        cdef int64_t total_until_ns = start_ns + (total_ns if total_ns else FOREVER_NS)
        cdef int64_t window_ns = 0
        cdef size_t window_start_bytes = 0
        cdef ssize_t received
        cdef event what
        cdef int error
        cdef bint answered = self.queued_bytes > 0
        if answered:
            error = self._send_all(self.queued, self.queued_bytes)
            self.queued_bytes = 0
            if error:
                return EVENT_TIMEOUT_STALLED if error == ETIMEDOUT else EVENT_CLOSED
        memset(&message, 0, sizeof(message))
        message.msg_iov = places
        what = self.reader.resume()
        if answered and what == EVENT_NEED_DATA and not self.reader.under_way():
            # Most senders wait for the answer: there is nothing to read yet, and trying would only say so.
            what = self._wait_for_data(start_ns + idle_ns, total_until_ns)
            if what == EVENT_TIMEOUT_IDLE:
                what = EVENT_NEED_DATA  # Sending may have taken that long: what is there meanwhile is read.
        while what == EVENT_NEED_DATA:
            if total_ns and _now_ns() >= total_until_ns:
                return EVENT_TIMEOUT_STALLED if self.reader.under_way() else EVENT_TIMEOUT_IDLE
            message.msg_iovlen = self.reader.targets(places, &what)
            if message.msg_iovlen == 0:
                break
            if self.reader.ahead.aside_left:
                received = <ssize_t>lookahead_take_aside(&self.reader.ahead, places, <int>message.msg_iovlen)
            else:
                message.msg_iovlen = self.reader.look_ahead(places, <int>message.msg_iovlen)
                received = recvmsg(self.fd, &message, MSG_DONTWAIT)
            if received > 0:
                what = self.reader.advance(<size_t>received)
                if what == EVENT_SPILL and self.reader.current.spill_unasked():
                    what = EVENT_NEED_DATA
                continue
            if received == 0:
                self.closed_cleanly = not self.reader.under_way()
                return EVENT_CLOSED
            if errno == EINTR:
                continue
            if errno != EAGAIN:
                return EVENT_CLOSED
            if self.reader.under_way():
                # A sender with Nagle's algorithm waits for our acknowledgement, which TCP would delay by 40 ms
                # (benchmarks: stock storescu, 22/s without this).
                fastscp_acknowledge_now(self.fd)
                # Each time enough has arrived, a new stretch of progress_ns begins; the first at the first wait.
                if window_ns == 0 or self.reader.total_bytes - window_start_bytes >= self.progress_bytes:
                    window_ns = _now_ns()
                    window_start_bytes = self.reader.total_bytes
                what = self._wait_for_data(0, min(total_until_ns, window_ns + self.progress_ns))
            else:
                what = self._wait_for_data(start_ns + idle_ns, total_until_ns)
        if what == EVENT_SPILL or what == EVENT_NO_MEMORY:
            self.reader.current.asked_about = True
        return what

    cdef bint _commit(self) noexcept nogil:
        cdef name_t name
        cdef int64_t start_ns
        cdef size_t data_bytes = self.reader.current.received_bytes
        if self.left_to_owner or self.reader.current.asked_about or self.reader.current.dropped_bytes:
            return False
        if not self.reader.current.ordinary(&name):
            return False
        start_ns = _now_ns()
        self.reader.current.store_error = self.committer.commit_ordinary(self.reader.current, &name)
        if self.reader.current.store_error:
            return False
        self.tally.count(self.sender, data_bytes, _now_ns() - start_ns)
        self.committed_count += 1
        self.committed_data_bytes += data_bytes
        self.queued_bytes = response_encode(
            self.queued,
            self.reader.current.context,
            self.reader.current.message,
            &self.reader.current.sop_class,
            &self.reader.current.sop_instance,
            0x0000,
            NULL,
            0,
            0,
            self.peer_max_pdu,
        )
        self.reader.instance_committed()
        return True

    cdef event _serve(self, int64_t idle_ns) noexcept nogil:
        cdef event what = self._receive(idle_ns, 0)
        while what == EVENT_STORE and self._commit():
            what = self._receive(idle_ns, 0)
        return what

    def commit_with(self, Committer committer not None, StoredTally tally not None, Sender sender not None):
        if self.committer is not None:
            raise ValueError("there is a committer already")
        self.committer = committer
        self.tally = tally
        self.sender = sender

    def serve(self, double idle_s):
        cdef int64_t idle_ns = _nanoseconds(idle_s)
        cdef event what
        if self.committer is None:
            return self.receive(idle_s)
        self.reader._check_no_views()
        with nogil:
            what = self._serve(idle_ns)
        return <int>what

    @property
    def committed(self):
        return self.committed_count, self.committed_data_bytes

    @property
    def leave_to_owner(self):
        return bool(self.left_to_owner)

    @leave_to_owner.setter
    def leave_to_owner(self, value):
        self.left_to_owner = value

    def receive(self, double idle_s, double total_s=0.0):
        cdef int64_t idle_ns = _nanoseconds(idle_s)
        cdef int64_t total_ns = _nanoseconds(total_s)
        cdef event what
        self.reader._check_no_views()
        with nogil:
            what = self._receive(idle_ns, total_ns)
        return <int>what

    def queue_store_response(
        self, Instance instance not None, unsigned short status, str error_comment="", unsigned int offending_element=0
    ):
        cdef bytes comment
        if self.queued_bytes:
            raise ValueError("a response is queued already")
        comment = error_comment.encode("ascii", "replace") if error_comment else b""
        self.queued_bytes = response_encode(
            self.queued,
            instance.context,
            instance.message,
            &instance.sop_class,
            &instance.sop_instance,
            status,
            comment,
            len(comment),
            offending_element,
            self.peer_max_pdu,
        )

    def send(self, data):
        cdef const unsigned char[::1] view = memoryview(data).cast("B")
        cdef const unsigned char *start = &view[0] if view.shape[0] else NULL
        cdef size_t length_bytes = <size_t>view.shape[0]
        cdef int error
        with nogil:
            error = self._send_all(self.queued, self.queued_bytes)
            self.queued_bytes = 0
            if error == 0:
                error = self._send_all(start, length_bytes)
        if error == ETIMEDOUT:
            raise TimeoutError(error, "the peer takes nothing")
        if error:
            raise OSError(error, "cannot send to the peer")

    def flush(self):
        self.send(b"")

    def ignore_wake(self):
        self.wake_fd = -1

    @property
    def peer_max_pdu_bytes(self):
        return self.peer_max_pdu

    @peer_max_pdu_bytes.setter
    def peer_max_pdu_bytes(self, value):
        self.peer_max_pdu = value

    @property
    def clean_close(self):
        return bool(self.closed_cleanly)
