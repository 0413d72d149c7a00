"""A-ASSOCIATE-RQ: decoded by pynetdicom once, and remembered together with the answer.

Enters: encoded PDUs. Leaves: pynetdicom's PDU objects. Never: an unbounded memory, a proposal with a user's identity in it.
"""

import struct
import threading
from collections import OrderedDict
from typing import NamedTuple

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from fastscp.observe.metrics import Metrics

# Item types of PS3.8 section 9.3.2 and PS3.7 annex D.3.3; any other is to be ignored.
_VARIABLE_ITEMS = frozenset({0x10, 0x20, 0x50})
_CONTEXT_ITEMS = frozenset({0x30, 0x40})
_USER_ITEMS = frozenset(range(0x51, 0x59))
_IMPLEMENTATION_VERSION_NAME = 0x55


class AcceptedProposal(NamedTuple):
    """What was agreed, and the A-ASSOCIATE-AC that says so. Shared by all associations with the same proposal: not to be changed."""

    primitive: A_ASSOCIATE
    encoded: bytes
    accepted: dict[int, PresentationContext]
    rejected: list[PresentationContext]
    transfer_syntaxes: dict[int, str]
    """Of the accepted presentation contexts, by id."""
    store_context_ids: frozenset[int]
    peer_max_pdu_bytes: int
    """0 where the peer sets no limit."""

    def pdu(self) -> A_ASSOCIATE_AC:
        """The answer as pynetdicom's object, for handlers of its events."""
        return A_ASSOCIATE_AC(self.primitive)


class ProposalPdu(A_ASSOCIATE_RQ):
    """An A-ASSOCIATE-RQ that is turned into a primitive once. Shared like its answer."""

    def __init__(self, encoded: bytes) -> None:
        """Raises ValueError, or whatever pynetdicom trips over, where `encoded` is no A-ASSOCIATE-RQ."""
        super().__init__()
        self.decode(_normalise(encoded))
        self.encoded = encoded
        self.answer: AcceptedProposal | None = None
        self._as_primitive: A_ASSOCIATE = super().to_primitive()

    @property
    def pdu_type(self) -> int:
        """The PDU's type; pynetdicom knows it by the exact class."""
        return 0x01

    def to_primitive(self) -> A_ASSOCIATE:
        """The request primitive."""
        return self._as_primitive


class Proposals:
    """Proposals that were accepted, by their bytes. The same sender always sends the same ones. Thread-safe."""

    def __init__(self, metrics: Metrics, ceiling_count: int = 256, ceiling_bytes: int = 8 << 20) -> None:
        """
        Args:
            ceiling_count, ceiling_bytes: the least recently used are forgotten beyond these; bytes are those of the encoded proposals.
        """
        self._metrics = metrics
        self._ceiling_count = ceiling_count
        self._ceiling_bytes = ceiling_bytes
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, ProposalPdu] = OrderedDict()
        self._remembered_bytes = 0

    def decode(self, encoded: bytes) -> ProposalPdu:
        """The PDU, with its answer where that is remembered."""
        with self._lock:
            known = self._remembered.get(encoded)
            if known is not None:
                self._remembered.move_to_end(encoded)
        self._metrics.negotiation(hit=known is not None)
        return known or ProposalPdu(encoded)

    def remember(self, pdu: ProposalPdu) -> None:
        """Keep a proposal whose `answer` is set."""
        with self._lock:
            if pdu.encoded in self._remembered:
                return
            self._remembered[pdu.encoded] = pdu
            self._remembered_bytes += len(pdu.encoded)
            while len(self._remembered) > self._ceiling_count or self._remembered_bytes > self._ceiling_bytes:
                forgotten, _ = self._remembered.popitem(last=False)
                self._remembered_bytes -= len(forgotten)


def _items(data: bytes) -> list[tuple[int, bytes]]:
    items = []
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise ValueError("an item of the A-ASSOCIATE-RQ ends inside its header")
        item_type, length_bytes = struct.unpack_from(">BxH", data, at)
        at += 4
        if length_bytes > len(data) - at:
            raise ValueError("an item of the A-ASSOCIATE-RQ is longer than what holds it")
        items.append((item_type, data[at : at + length_bytes]))
        at += length_bytes
    return items


def _encode(items: list[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack(">BxH", item_type, len(value)) + value for item_type, value in items)


def _normalise(encoded: bytes) -> bytes:
    """What pynetdicom would refuse, and the standard or practice tolerates, put right; lengths are checked on the way.

    Only bit 0 of the protocol version counts (PS3.8 table 9-11), unknown items are ignored (section 9.3.1), UIDs may be padded, and
    characters that no AE title has become question marks.
    """
    if len(encoded) < 74:
        raise ValueError("the A-ASSOCIATE-RQ is shorter than its fixed fields")
    version = 0x0001 if encoded[7] & 0x01 else struct.unpack_from(">H", encoded, 6)[0]
    items = [(item_type, _normalise_item(item_type, value)) for item_type, value in _items(encoded[74:]) if item_type in _VARIABLE_ITEMS]
    variable = _encode(items)
    titles = _normalise_title(encoded[10:26]) + _normalise_title(encoded[26:42])
    return struct.pack(">BxLHxx", 0x01, 68 + len(variable), version) + titles + encoded[42:74] + variable


def _normalise_item(item_type: int, value: bytes) -> bytes:
    if item_type == 0x20:
        if len(value) < 4:
            raise ValueError("a presentation context item is shorter than its fixed fields")
        syntaxes = [(kind, uid.rstrip(b"\0 ")) for kind, uid in _items(value[4:]) if kind in _CONTEXT_ITEMS]
        return value[:4] + _encode(syntaxes)
    if item_type == 0x50:
        return _encode([(kind, item) for kind, item in _items(value) if kind in _USER_ITEMS and _is_usable(kind, item)])
    return value.rstrip(b"\0 ")


def _is_usable(kind: int, item: bytes) -> bool:
    # Nobody's association should fail because of how the sender's software is called.
    return kind != _IMPLEMENTATION_VERSION_NAME or (0 < len(item.strip()) <= 16 and item.isascii())


def _normalise_title(title: bytes) -> bytes:
    printable = bytes(byte if 0x20 <= byte < 0x7F and byte != 0x5C else 0x3F for byte in title.rstrip(b"\0 "))
    # A title of spaces alone is none, and pynetdicom would abort for it.
    return (printable if printable.strip() else b"?").ljust(16)
