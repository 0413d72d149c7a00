"""A record that repeats, in a minute that a test makes."""

import io
import json
from typing import Any

import pytest
import structlog

from fastscp.observe import log
from fastscp.observe.repeats import MOST_IN_A_WINDOW, UNLIMITED, WINDOW_S, Repeats


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def passed(repeats: Repeats, event: str, times: int, method: str = "warning") -> list[dict[str, Any]]:
    records = []
    for _ in range(times):
        try:
            records.append(dict(repeats(None, method, {"event": event})))
        except structlog.DropEvent:
            continue
    return records


def test_so_many_in_a_minute_and_their_number_in_the_next() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert passed(repeats, "no_association", 50) == [{"event": "no_association"}] * MOST_IN_A_WINDOW
    clock.now_s += WINDOW_S - 1
    assert passed(repeats, "no_association", 3) == []
    clock.now_s += 1
    dropped = 50 - MOST_IN_A_WINDOW + 3
    assert passed(repeats, "no_association", 2) == [{"event": "no_association", "dropped": dropped}, {"event": "no_association"}]


def test_each_event_has_its_own_number() -> None:
    repeats = Repeats(Clock())
    passed(repeats, "no_association", 50)
    assert len(passed(repeats, "cannot_accept", 1, "error")) == 1


@pytest.mark.parametrize("event", sorted(UNLIMITED))
def test_what_nothing_else_says_is_never_dropped(event: str) -> None:
    assert len(passed(Repeats(Clock()), event, 500)) == 500


@pytest.mark.parametrize("method", ["debug", "info"])
def test_what_is_no_complaint_is_never_dropped(method: str) -> None:
    assert len(passed(Repeats(Clock()), "association_ended", 500, method)) == 500


@pytest.mark.usefixtures("restored_logging")
def test_the_log_drops_repeats() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    for _ in range(3 * MOST_IN_A_WINDOW):
        log.get_logger("association").warning("no_association")
    log.get_logger("association").warning("proxy_refused")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["no_association"] * MOST_IN_A_WINDOW + ["proxy_refused"]
