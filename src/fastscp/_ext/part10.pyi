"""One instance: its Part-10 file in memory, from the preamble to the last byte received.

Enters: the command's UIDs, then data set bytes. Leaves: segments that form a Part-10 file (PS3.10 section 7).
Never: a copy of the data set, a parse beyond its head.
"""

from typing import Literal, final

from fastscp._ext.head import Head

@final
class Instance:
    """One instance being received or received. Owns its segments until `release`.

    Made by `MessageReader` when a C-STORE-RQ command is complete; handed over whole by `take_instance`.
    """

    @property
    def context_id(self) -> int: ...
    @property
    def message_id(self) -> int: ...
    @property
    def sop_class_uid(self) -> str | None:
        """Affected SOP Class UID (0000,0002) of the command, stripped of padding; None where absent."""
    @property
    def sop_instance_uid(self) -> str | None:
        """Affected SOP Instance UID (0000,1000) of the command, stripped of padding; None where absent."""
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def head(self) -> Head:
        """What the scan of the head found so far. For deflated syntaxes: what `inflated_head` found, "incomplete" before it was called."""
    def ordinary_name(self) -> tuple[str, str, str] | None:
        """(Study, Series, SOP Instance UID) of a complete instance with nothing unusual about it, None for any other.

        Nothing unusual: kept whole, its head in memory and readable, SOP Class and Instance UID equal to those of the command, the three
        UIDs conformant (PS3.5 section 9.1). One call in place of a dozen, for the path that nearly all instances take.
        """
    @property
    def deflated(self) -> bool: ...
    @property
    def dataset_bytes(self) -> int:
        """Bytes of data set received so far, those that left memory and those discarded included."""
    @property
    def file_meta_bytes(self) -> int:
        """Length of preamble, prefix and file meta."""
    @property
    def file_bytes(self) -> int:
        """Length of the Part-10 file so far: file_meta_bytes + dataset_bytes."""
    @property
    def complete(self) -> bool:
        """Whether the last fragment of the data set has arrived."""
    @property
    def refusal(self) -> Literal[None, "no_data_set", "too_large", "no_memory"]:
        """Why the bytes were discarded as they came, None where they were kept."""
    @property
    def spilled_bytes(self) -> int:
        """Bytes of the Part-10 file that have left memory."""

    def segments(self) -> list[memoryview]:
        """The part of the file that is in memory, in order, read-only and without a copy.

        The views keep the memory: `release` and `drop_spillable` raise BufferError while one is alive.
        """

    @property
    def spill_at_bytes(self) -> int:
        """SPILL comes when this many bytes of the file are in memory, and again with each as many more.

        The reader's threshold until it is set.
        """
    @spill_at_bytes.setter
    def spill_at_bytes(self, value: int) -> None: ...
    def spillable_bytes(self) -> int:
        """Bytes at the front of what is in memory that nothing here needs any more: full segments before the scan's position."""

    def spillable_segments(self) -> list[memoryview]:
        """Views of these bytes."""

    def drop_spillable(self, count_bytes: int) -> None:
        """Give the first `count_bytes` in memory back to the pool: exactly what `spillable_bytes` said, after they were stored."""

    def write_spillable(self, fd: int) -> int:
        """Write the spillable bytes to a file and drop them, without the interpreter lock. Returns bytes written. Raises OSError."""

    def spill_to(self, fd: int) -> None:
        """From now on `Wire` writes what can leave memory to this file by itself, instead of saying SPILL.

        The descriptor stays its owner's, who keeps it open until the instance is taken. SPILL comes again where a write fails; the error
        is raised by whatever writes or commits the instance next.
        """

    def inflated_head(self, limit_bytes: int) -> Head:
        """The head of a deflated data set: inflates what is in memory into at most `limit_bytes` of output.

        Remembered for `head` once it is complete. Raises ValueError where the data set is not deflated or part of it has left memory.
        """

    def use_reserve(self) -> bool:
        """Let this instance draw on the pool's reserve until it is released or has left memory far enough, one at a time.

        Returns whether it may from now on: False where it could already, where another may, or where the pool has no reserve.
        """

    def release(self) -> None:
        """Give all memory back. Idempotent. Raises BufferError while a view is alive, ValueError while it is its reader's."""
