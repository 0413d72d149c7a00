"""What a function answers to the state machine.

Enters: nothing. Leaves: two members. Never: anything that grows with a batch.
"""

from typing import Literal, TypedDict


class Next(TypedDict):
    """What the state machine does next, after so many seconds.

    WAIT: the same function again. START: start_import_job. CHECK: check_status. END: nothing.
    """

    next: Literal["WAIT", "START", "CHECK", "END"]
    seconds: int


END: Next = {"next": "END", "seconds": 0}
