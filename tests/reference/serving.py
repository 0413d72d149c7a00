"""One connection whose wire commits ordinary instances itself.

Enters: a connection and a committer. Leaves: events, answers, and every count there is of what was committed. Never: a default store.
"""

import contextlib
import socket
import zlib
from dataclasses import dataclass
from typing import Any

from fastscp._ext import dimse, pdu
from fastscp._ext.committer import Committer
from fastscp._ext.memory import BufferPool
from fastscp._ext.tally import Sender, StoredTally
from fastscp._ext.wire import Wire
from reference import traffic
from reference.driving import CONTEXTS, SOURCE_AE_TITLE, STORE_CONTEXT_IDS, Limits
from reference.reference_dimse import encode_store_request
from reference.wiring import LONG_S, Connection

DEFLATED_CONTEXT_ID = 9
DEFLATED_SYNTAX = "1.2.840.10008.1.2.1.99"
BOUNDS_S = (0.001, 1.0)


@dataclass(frozen=True)
class Sent:
    """An ordinary instance as a peer sends it, and what must come back."""

    message_id: int
    sop_instance_uid: str
    data_set: bytes
    stream: bytes

    @property
    def path(self) -> str:
        """Where a file store puts it."""
        return f"1.2.3/1.2.3.1/{self.sop_instance_uid}.dcm"

    def answer(self, status: int = 0x0000, *, max_pdu_bytes: int = 0) -> bytes:
        return response(self.message_id, self.sop_instance_uid, status=status, max_pdu_bytes=max_pdu_bytes)


def response(
    message_id: int,
    sop_instance_uid: str,
    *,
    context_id: int = 1,
    sop_class_uid: str = traffic.CT_IMAGE_STORAGE,
    status: int = 0x0000,
    max_pdu_bytes: int = 0,
) -> bytes:
    return dimse.encode_store_response(
        context_id=context_id,
        message_id=message_id,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        status=status,
        max_pdu_bytes=max_pdu_bytes,
    )


def ordinary(number: int, pixels: bytes = b"") -> Sent:
    uid = f"1.2.3.4.{number}"
    data_set = traffic.data_set(sop_instance_uid=uid, pixels=pixels or bytes([number % 256]) * (2 * (number % 50)))
    return Sent(number, uid, data_set, traffic.store(1, data_set, message_id=number, sop_instance_uid=uid))


# Messages that are none.


def message(command: bytes, data_set: bytes | None, context_id: int = 1) -> bytes:
    pdvs = traffic.fragments(context_id, command, [], command=True)
    return traffic.packed(pdvs if data_set is None else pdvs + traffic.fragments(context_id, data_set, [], command=False), [])


def without(data_set: bytes, tag: tuple[int, int], value: bytes) -> bytes:
    element = traffic.element(*tag, b"UI", value)
    assert data_set.count(element) == 1
    return data_set.replace(element, b"")


def deflated(data_set: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    out = deflater.compress(data_set) + deflater.flush()
    return out + bytes(len(out) % 2)


_PLAIN = traffic.data_set()
LARGE_BYTES = 100_000
"""More than this is too large for one of those."""
NOT_ORDINARY: dict[str, tuple[bytes, str | None]] = {
    # name: message on an established association, `Instance.refusal`
    "another SOP instance than the command's": (traffic.store(1, traffic.data_set(sop_instance_uid="1.2.3.5")), None),
    "another SOP class than the command's": (traffic.store(1, traffic.data_set(sop_class_uid="1.2.840.10008.5.1.4.1.1.4")), None),
    "no SOP instance in the command": (message(encode_store_request(sop_instance_uid=None), _PLAIN), None),
    "no SOP class in the command": (message(encode_store_request(sop_class_uid=None), _PLAIN), None),
    "a SOP instance that does not conform": (traffic.store(1, traffic.data_set(sop_instance_uid="1.02"), sop_instance_uid="1.02"), None),
    "a study that does not conform": (traffic.store(1, traffic.data_set(study_instance_uid="1..2")), None),
    "a series that does not conform": (traffic.store(1, traffic.data_set(series_instance_uid="1.2.3.")), None),
    "a study that would leave the directory": (traffic.store(1, traffic.data_set(study_instance_uid="../1.2")), None),
    "a series that is too long": (traffic.store(1, traffic.data_set(series_instance_uid="1." + "2" * 63)), None),
    "an empty study": (traffic.store(1, traffic.data_set(study_instance_uid="")), None),
    "no study": (traffic.store(1, without(_PLAIN, (0x0020, 0x000D), b"1.2.3\0")), None),
    "no series": (traffic.store(1, without(_PLAIN, (0x0020, 0x000E), b"1.2.3.1\0")), None),
    "no SOP instance": (traffic.store(1, without(_PLAIN, (0x0008, 0x0018), b"1.2.3.4\0")), None),
    "a head that is cut": (traffic.store(1, _PLAIN[:60]), None),
    "a head that is malformed": (traffic.store(1, _PLAIN[:50] + b"\xff" * 60), None),
    "a deflated data set": (traffic.store(DEFLATED_CONTEXT_ID, deflated(_PLAIN)), None),
    "an empty data set": (message(encode_store_request(), b""), None),
    "no data set": (message(encode_store_request(has_data_set=False), None), "no_data_set"),
    "a data set that is too large": (traffic.store(1, traffic.data_set(pixels=bytes(LARGE_BYTES))), "too_large"),
}


class Serving:
    """A wire that serves, everything it counts with, and the memory it takes from."""

    def __init__(
        self,
        line: Connection,
        committer: Committer | None,
        *,
        limits: Limits = Limits(),  # noqa: B008
        pool: BufferPool | None = None,
        tally: StoredTally | None = None,
        sender: Sender | None = None,
        **options: Any,
    ) -> None:
        self.line = line
        self.pool = pool or BufferPool(1 << 26)
        self.tally, self.sender = tally or StoredTally(BOUNDS_S), sender or Sender()
        self.wire: Wire
        self.wire, self.reader = line.wire(pool=self.pool, limits=limits, established=False, **options)
        store_context_ids = STORE_CONTEXT_IDS | {DEFLATED_CONTEXT_ID}
        self.reader.establish({**CONTEXTS, DEFLATED_CONTEXT_ID: DEFLATED_SYNTAX}, store_context_ids, SOURCE_AE_TITLE)
        if committer is not None:
            self.wire.commit_with(committer, self.tally, self.sender)

    def serve(self, idle_s: float = LONG_S) -> int:
        return self.wire.serve(idle_s)

    def take(self, status: int = 0xC000) -> Any:
        """The instance of a STORE, answered (with the next event) as its owner wants."""
        instance = self.reader.take_instance()
        self.wire.queue_store_response(instance, status)
        return instance

    def assert_committed(self, *sent: Sent) -> None:
        """These and no others were committed, in every count, and nothing of them is in memory."""
        expected = len(sent), sum(len(each.data_set) for each in sent)
        buckets, dataset_bytes, _ = self.tally.snapshot()
        assert self.wire.committed == expected
        assert (sum(buckets), dataset_bytes) == expected
        assert (self.sender.instance_count, self.sender.dataset_bytes) == expected
        assert self.pool.in_use_bytes == 0


def arrived(peer: socket.socket, count_bytes: int) -> bytes:
    """So many bytes, and no fewer."""
    out = b""
    while len(out) < count_bytes:
        data = peer.recv(count_bytes - len(out))
        assert data, "the connection ended"
        out += data
    return out


def arrived_so_far(peer: socket.socket) -> bytes:
    """What there is, without a wait; of a socket that does not block."""
    out = b""
    with contextlib.suppress(BlockingIOError):
        while data := peer.recv(1 << 20):
            out += data
    return out


def assert_answers(peer: socket.socket, expected: bytes) -> None:
    """Exactly this arrives, and nothing is there after it."""
    assert arrived(peer, len(expected)) == expected
    peer.setblocking(False)
    try:
        more = peer.recv(1)
    except BlockingIOError:
        more = b""
    finally:
        peer.settimeout(LONG_S)
    assert more == b""


def assert_left_to_owner(serving: Serving, *, refusal: str | None = None) -> Any:
    """STORE is what comes next. Returns the instance, which is the caller's."""
    assert serving.serve() == pdu.STORE
    instance = serving.reader.take_instance()
    assert instance.refusal == refusal
    return instance
