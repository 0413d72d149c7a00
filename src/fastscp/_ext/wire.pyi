"""The socket under a MessageReader.

Enters: what the peer sends, each data set byte straight into the instance. Leaves: events and answers, ordinary instances committed.
Never: Success before the commit, holds the interpreter lock while it waits or copies, waits without a deadline.
"""

from typing import final

from typing_extensions import Buffer

from fastscp._ext.committer import Committer
from fastscp._ext.part10 import Instance
from fastscp._ext.pdu import MessageReader
from fastscp._ext.tally import Sender, StoredTally

@final
class Wire:
    """One connected, non-blocking or blocking TCP socket and its reader. One thread owns it; does not own the descriptor."""

    def __init__(
        self,
        fd: int,
        reader: MessageReader,
        *,
        wake_fd: int,
        progress_bytes: int,
        progress_s: float,
    ) -> None:
        """
        Args:
            wake_fd: readable when the owner should look up between messages (an eventfd or pipe); -1 for none.
            progress_bytes, progress_s: fewer bytes than this in each stretch of this time, inside a message, is a stall.
        """

    def receive(self, idle_s: float, total_s: float = 0.0) -> int:
        """Send what is queued, then read until the next event.

        Args:
            idle_s: longest wait for the first byte of the next PDU while no message is under way.
            total_s: where not 0, longest time for the whole call, progress or not (TIMEOUT_STALLED inside a message, else TIMEOUT_IDLE).
        """

    def commit_with(self, committer: Committer, tally: StoredTally, sender: Sender) -> None:
        """Let `serve` commit ordinary instances with `committer` and count them. To be called once."""

    def serve(self, idle_s: float) -> int:
        """As `receive`, but ordinary instances are committed, counted and answered with 0x0000 on the way, without the interpreter lock.

        STORE comes of an instance that is not ordinary, of which SPILL or NO_MEMORY came before (what was begun elsewhere ends there), or
        whose commit failed: its owner learns why when it commits it, and nothing is tried again.
        """

    @property
    def committed(self) -> tuple[int, int]:
        """(instances, bytes of data set) that `serve` has committed. To be asked by the thread that serves."""

    @property
    def leave_to_owner(self) -> bool:
        """Whether `serve` commits nothing, and every instance is a STORE. May be set from any thread, holds from the next instance on."""
    @leave_to_owner.setter
    def leave_to_owner(self, value: bool) -> None: ...
    def queue_store_response(self, instance: Instance, status: int, error_comment: str = "", offending_element: int = 0) -> None:
        """Encode the C-STORE-RSP to this instance; the next `receive` or `flush` sends it. See `dimse.encode_store_response`."""

    def send(self, data: Buffer) -> None:
        """Send what is queued, then `data`. Raises TimeoutError on a stall, OSError where the connection is gone."""

    def flush(self) -> None:
        """Send what is queued. Raises as `send` does."""

    def ignore_wake(self) -> None:
        """From now on the wake descriptor is not looked at (it stays readable once drain has begun)."""

    @property
    def peer_max_pdu_bytes(self) -> int: ...
    @peer_max_pdu_bytes.setter
    def peer_max_pdu_bytes(self, value: int) -> None: ...
    @property
    def clean_close(self) -> bool:
        """After CLOSED: no PDU or message was cut short."""
