"""What reaches the log, and what hostile text does to it: nothing."""

import io
import json
import logging
import re
import warnings
from datetime import datetime, timedelta

import pytest

from fastscp.observe import log

HOSTILE = 'CT\n{"event":"ready"}\r\x1b[2J\x1b]0;pwned\x07\x00\x7f\x85\u2028\u2029\u202eevil\x9b31m"\\'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


pytestmark = pytest.mark.usefixtures("restored_logging")


def test_json_records_have_time_level_event_and_facts() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    log.get_logger("service").info("ready", port=11112)
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    when = datetime.fromisoformat(record.pop("timestamp"))
    assert when.utcoffset() == timedelta(0)
    assert record == {"level": "info", "event": "ready", "component": "service", "port": 11112}


def test_hostile_text_in_json_stays_one_ascii_line() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    log.get_logger("association").info("rejected", calling_aet=HOSTILE, raw=HOSTILE.encode(), thing=Exception(HOSTILE))
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.isascii()
    assert text.rstrip("\n").isprintable()
    record = json.loads(text)
    assert record["calling_aet"] == HOSTILE
    assert record["event"] == "rejected"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_hostile_text_on_a_console_neither_breaks_lines_nor_controls_the_terminal(stream: type[io.StringIO]) -> None:
    out = stream()
    log.configure("info", "console", out)
    log.get_logger("association").info("rejected", calling_aet=HOSTILE, raw=HOSTILE.encode(), thing=Exception(HOSTILE))
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())  # the renderer's own colours
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert "\\x1b[2J" in text
    assert "\\u202e" in text
    # The text's own colour sequence was made visible before the renderer's were added.
    assert "\\x9b31m" in text


def test_hostile_text_in_an_exception_cannot_forge_a_record() -> None:
    stream = io.StringIO()
    log.configure("debug", "console", stream)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.get_logger("service").error("failed", exc_info=True)
    first, *rest = stream.getvalue().splitlines()
    assert "failed" in first
    assert rest
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)


def test_a_console_shows_a_traceback_only_at_debug_and_json_always() -> None:
    for level, form, expected in (("info", "console", False), ("debug", "console", True), ("info", "json", True)):
        stream = io.StringIO()
        log.configure(level, form, stream)  # type: ignore[arg-type]
        try:
            raise ValueError("x")
        except ValueError:
            log.get_logger("service").error("failed", exc_info=True)
        assert ("Traceback" in stream.getvalue()) is expected, (level, form)
        assert "ValueError" in stream.getvalue()


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        log.configure("info", "auto", stream)
        log.get_logger("service").info("ready")
    assert not terminal.getvalue().startswith("{")
    assert json.loads(pipe.getvalue())["event"] == "ready"


def test_records_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    log.configure("warning", "json", stream)
    logger = log.get_logger("service")
    logger.info("quiet")
    logger.bind(x=1).debug("quiet")
    logger.warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_a_logger_made_before_configure_follows_it() -> None:
    logger = log.get_logger("early")
    stream = io.StringIO()
    log.configure("info", "json", stream)
    logger.info("late")
    assert json.loads(stream.getvalue())["component"] == "early"


def test_a_library_that_quotes_its_peer_is_reported_without_its_words() -> None:
    stream = io.StringIO()
    log.configure("debug", "json", stream)
    logging.getLogger("pynetdicom.acse").info("Calling AE Doe^John")
    logging.getLogger("pynetdicom.acse").warning("Calling AE %s", "Doe^John")
    text = stream.getvalue()
    assert "Doe" not in text
    record = json.loads(text)
    assert (record["logger"], record["level"], record["event"]) == ("pynetdicom.acse", "warning", "library_warning")
    assert record["function"] == "test_a_library_that_quotes_its_peer_is_reported_without_its_words"


def test_other_libraries_and_python_warnings_are_reported_in_their_words() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    logging.getLogger("waitress").error("oh %s", HOSTILE)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["level"], first["message"]) == ("error", "oh " + HOSTILE)
    assert "DeprecationWarning: old" in second["message"]


def test_a_reader_that_is_gone_hurts_nobody() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    stream.close()
    log.get_logger("service").info("unheard")
