"""Every error that fastscp raises on purpose.

Enters: nothing. Leaves: exceptions that carry the answer to give. Never: a decision or a log line.
"""

from typing import Literal

RefusalReason = Literal[
    "sop_class_mismatch",
    "sop_class_not_supported",
    "sop_instance_mismatch",
    "missing_uid",
    "unusable_uid",
    "unreadable_head",
    "no_data_set",
    "too_large",
    "no_memory",
    "duplicate",
    "store_failed",
    "handler",
    "internal_error",
]
"""Why an instance is refused, as the metrics name it."""


class FastScpError(Exception):
    """Base of all errors of this package."""


class ConfigError(FastScpError):
    """A setting is unusable. Ends the process with exit code 2.

    Attributes:
        option: the option's name as written on the command line, with its dashes.
        problem: what is wrong with it.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option = option
        self.problem = problem


class CommandError(FastScpError):
    """A command cannot do what it was asked to. Ends the process with exit code 1; the text is the one line that says why."""


class ProtocolError(FastScpError):
    """The peer broke the DICOM upper layer or message protocol; the answer is A-ABORT.

    Attributes:
        abort_reason: reason of A-ABORT from the service provider, PS3.8 table 9-26.
    """

    def __init__(self, problem: str, abort_reason: int = 6) -> None:
        super().__init__(problem)
        self.abort_reason = abort_reason


class RefusedError(FastScpError):
    """This instance is not stored; the answer is a C-STORE-RSP with a failure status, and the association goes on.

    Attributes:
        status: PS3.4 table B.2-1.
        reason: one word for the metrics, see `RefusalReason`.
        comment: Error Comment (0000,0902), at most 64 characters of ASCII.
        offending_element: tag as 0xGGGGEEEE for (0000,0901), 0 for none.
    """

    def __init__(self, status: int, reason: RefusalReason, comment: str, offending_element: int = 0) -> None:
        super().__init__(f"0x{status:04X} {comment}")
        self.status = status
        self.reason: RefusalReason = reason
        self.comment = comment[:64]
        self.offending_element = offending_element


class StoreError(RefusedError):
    """The store could not commit the instance (0xA700, out of resources).

    Attributes:
        problem: what happened, for the log: no text from the peer, no patient data.
    """

    def __init__(self, comment: str, problem: str) -> None:
        super().__init__(0xA700, "store_failed", comment)
        self.problem = problem
