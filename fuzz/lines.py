"""Which ways through the reference an input takes.

Enters: a call. Leaves: the edges between its lines, each with how often in powers of two. Never: other modules' lines.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from reference import reference_dimse, reference_part10, reference_pdu

FILES = {module.__file__ for module in (reference_dimse, reference_part10, reference_pdu)}

Edge = tuple[int, int, int]


def edges(call: Callable[[], Any]) -> tuple[Any, set[Edge]]:
    """Runs `call` and returns what it returned and the edges it took."""
    taken: Counter[tuple[int, int]] = Counter()
    numbers: dict[Any, int] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in FILES:
            return None
        # Stable over runs, other than the id of a code object.
        base = numbers.get(code)
        if base is None:
            base = numbers[code] = hash((code.co_filename, code.co_firstlineno)) & 0xFFFFFFFF0000
        previous = frame.f_lineno

        def trace_line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal previous
            if event == "line":
                taken[base | previous, frame.f_lineno] += 1
                previous = frame.f_lineno
            return trace_line

        return trace_line

    sys.settrace(trace)
    try:
        result = call()
    finally:
        sys.settrace(None)
    return result, {(before, after, count.bit_length()) for (before, after), count in taken.items()}
