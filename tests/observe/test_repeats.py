"""A record that repeats, in a minute that a test makes."""

import io
import json
from typing import Any

import pytest
import structlog

from fastscp.observe import log
from fastscp.observe.repeats import FOR_EACH, MOST_IN_A_WINDOW, MOST_SUBJECTS, UNLIMITED, WINDOW_S, Repeats


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def passed(repeats: Repeats, event: str, times: int, method: str = "warning", **facts: str) -> list[dict[str, Any]]:
    records = []
    for _ in range(times):
        try:
            records.append(dict(repeats(None, method, {"event": event, **facts})))
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


def rejected(repeats: Repeats, times: int, title: str, reason: str = "local_limit") -> list[dict[str, Any]]:
    return passed(repeats, "association_rejected", times, calling_aet=title, peer_address="192.0.2.1", reason=reason)


def test_who_is_rejected_again_and_again_hides_nobody() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert len(rejected(repeats, 1000, "CT1")) == MOST_IN_A_WINDOW
    assert len(rejected(repeats, 1, "CT2")) == 1
    assert len(rejected(repeats, 1, "CT1", "called_aet")) == 1
    clock.now_s += WINDOW_S
    (record,) = rejected(repeats, 1, "CT1")
    assert record["dropped"] == 1000 - MOST_IN_A_WINDOW
    assert set(FOR_EACH["association_rejected"]) <= set(record)


def test_subjects_that_a_peer_makes_up_are_bounded() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert len([title for title in range(10_000) if rejected(repeats, 1, f"X{title}")]) == MOST_SUBJECTS + MOST_IN_A_WINDOW
    assert sum(map(len, repeats._windows.values())) <= MOST_SUBJECTS + 1
    # A minute later there is room for others.
    clock.now_s += WINDOW_S
    assert len(rejected(repeats, 30, "CT1")) == MOST_IN_A_WINDOW
    assert len([title for title in range(10_000) if rejected(repeats, 1, f"Y{title}")]) <= MOST_SUBJECTS + MOST_IN_A_WINDOW
    assert sum(map(len, repeats._windows.values())) <= MOST_SUBJECTS + 1


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
