"""PDUs and PDVs into messages (PS3.8 section 9.3, annex E; PS3.7 section 6.3).

Enters: bytes, in any cuts. Leaves: one event at a time. Never: reads a socket, believes a length before checking it.
"""

from typing import final

from typing_extensions import Buffer

from fastscp._ext.memory import BufferPool
from fastscp._ext.part10 import Instance

# Events. `feed`, `Wire.receive` and `Wire.serve` return one of these.
NEED_DATA: int
"""All bytes are taken in and nothing is complete."""
STORE: int
"""A C-STORE-RQ and its data set are complete: `take_instance`."""
MESSAGE: int
"""Any other DIMSE message is complete: `take_message`."""
CONTROL: int
"""A PDU that is not P-DATA-TF is complete: `take_control_pdu`."""
SPILL: int
"""The instance being received holds at least the spill threshold in memory: spill, or call `discard`, and go on.
Raised again each time another threshold's worth is held."""
NO_MEMORY: int
"""The next segment exceeds the budget; nothing is read until it can be had. Wait and go on, spill, or `discard`."""
PROTOCOL_ERROR: int
"""The peer broke the protocol; the reader takes no more bytes. See `error_text` and `abort_reason`."""
# Only those of Wire return these.
CLOSED: int
"""The peer closed or reset the connection. `Wire.clean_close` tells whether nothing was cut short."""
TIMEOUT_IDLE: int
"""No message (or, before the association, no A-ASSOCIATE-RQ) within the time."""
TIMEOUT_STALLED: int
"""A message or PDU began and did not make progress."""
WOKEN: int
"""The wake descriptor became readable while no message was under way."""

@final
class MessageReader:
    """Frames one connection's bytes into events. Not thread-safe: one thread at a time owns it.

    Before `establish` only control PDUs are legal; P-DATA-TF is then a protocol error.
    Which memory holds what: see ARCHITECTURE.md, Memory.
    """

    def __init__(
        self,
        pool: BufferPool,
        *,
        max_pdu_bytes: int,
        max_instance_bytes: int,
        spill_threshold_bytes: int,
        implementation_class_uid: str,
        implementation_version_name: str,
    ) -> None:
        """
        Args:
            max_pdu_bytes: the maximum length negotiated with the peer, PS3.8 annex D.1. PDUs up to twice that plus 64 KiB are read
                all the same, longer ones are a protocol error. Control PDUs have a ceiling of their own (1 MiB for
                A-ASSOCIATE, 4 bytes for release and abort).
        """

    def establish(self, contexts: dict[int, str], store_context_ids: frozenset[int], source_ae_title: str) -> None:
        """From here on P-DATA-TF is legal.

        Args:
            contexts: transfer syntax UID by accepted presentation context id. A PDV with another id is a protocol error.
            store_context_ids: those on which a C-STORE-RQ makes an instance; elsewhere it is a MESSAGE.
            source_ae_title: for (0002,0016), at most 16 characters.
        """

    def feed(self, data: Buffer) -> tuple[int, int]:
        """Take bytes in until an event or the end of `data`. Returns (event, bytes consumed). Copies; for tests.

        The header after a fragment is read with it: after an event, feed again, if only b"", until NEED_DATA.
        Raises BufferError while a view of the instance is alive.
        """

    @property
    def mid_message(self) -> bool:
        """Whether a PDU or a message has begun and is not complete."""
    @property
    def instance(self) -> Instance | None:
        """The instance being received, after SPILL or NO_MEMORY. Borrowed until the next event."""

    def take_instance(self) -> Instance:
        """After STORE: the instance, whose owner is now the caller."""
    def take_message(self) -> tuple[int, bytes, bytes]:
        """After MESSAGE: (context id, command set, data set), the data set empty where there is none.

        Data sets over 1 MiB are a protocol error.
        """
    def take_control_pdu(self) -> bytes:
        """After CONTROL: the whole PDU, header included."""
    def discard(self) -> None:
        """Give the current instance's memory back and discard the rest of its data set as it arrives.
        STORE then follows with `refusal` "no_memory"."""

    def close(self) -> None:
        """Give back what is held of a message that will not be completed; PROTOCOL_ERROR from here on.

        Raises BufferError while a view is alive.
        """

    @property
    def error_text(self) -> str:
        """After PROTOCOL_ERROR: what was wrong, for the log."""
    @property
    def abort_reason(self) -> int:
        """After PROTOCOL_ERROR: the reason for A-ABORT, PS3.8 table 9-26."""
    @property
    def received_bytes(self) -> int:
        """All bytes taken in since the start."""
