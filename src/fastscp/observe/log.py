"""Log records: one JSON object a line, or text where a person watches, always to stderr (stdout is for results).

Enters: events with keys and values, and warnings of libraries. Leaves: one line for each, that no value can break or forge.
Never: patient data, the words of a library that quotes its peer, an exception because a line could not be written.
"""

import logging
import re
import sys
import threading
import time
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog

from fastscp.observe.repeats import Repeats

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]

# These loggers quote what the peer sent in their messages.
_LOGGERS_THAT_QUOTE = ("pynetdicom", "pydicom")
_QUOTING_WARNING = re.compile(r".*[/\\](?:pynetdicom|pydicom)[/\\].*?:(?P<line>[0-9]+): (?P<category>\w+):")


class _Sink:
    """Writes whole lines from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # Whoever read the log is gone: no reason to fail an association, and there is nowhere to say so.
                pass

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


def visible(text: str) -> str:
    """The text with everything that is not printable, direction marks included, as an escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _neutralise(value: object) -> object:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, bool | int | float | None):
        return value
    return visible(str(value))


def _neutralise_all(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    exception = record.pop("exception", None)
    cleaned: MutableMapping[str, Any] = {key: _neutralise(value) for key, value in record.items()}
    if exception is not None:
        # Indented, so that no line of it looks like a record of its own.
        cleaned["exception"] = "\n".join(f"    | {visible(line)}" for line in str(exception).splitlines())
    return cleaned


def _without_traceback(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if record.pop("exc_info", None):
        error = sys.exc_info()[1]
        record.setdefault("error", type(error).__name__)
    return record


class _Forward(logging.Handler):
    """Records of libraries that use the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        name = record.name.partition(".")[0]
        facts: dict[str, object] = {"logger": record.name}
        if name in _LOGGERS_THAT_QUOTE:
            facts |= {"function": record.funcName, "line": record.lineno}
        elif (warning := _QUOTING_WARNING.match(record.getMessage())) is not None:
            facts |= {"warning": warning["category"], "line": int(warning["line"])}
        else:
            facts["message"] = record.getMessage()
        if record.exc_info and record.exc_info[0]:
            facts["error"] = record.exc_info[0].__name__
        logger = get_logger(name)
        (logger.error if record.levelno >= logging.ERROR else logger.warning)("library_warning", **facts)


def configure(level: LogLevel, log_format: LogFormat, stream: TextIO | None = None, *, worker: int | None = None) -> None:
    """Set up logging for the process; to be called once, before the first record that matters.

    Args:
        level: least severe level that is written.
        log_format: "auto" is console where the stream is a terminal and json elsewhere.
        stream: stderr where None.
        worker: the number of this process among several, for every record.
    """
    stream = stream or sys.stderr
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    processors: list[structlog.typing.Processor] = [
        Repeats(time.monotonic),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if worker is not None:
        processors.append(lambda _logger, _method, record: {**record, "worker": worker})
    if console:
        # A traceback belongs on a terminal only where somebody is looking for an error in the program.
        processors.append(structlog.processors.format_exc_info if level == "debug" else _without_traceback)
        processors.append(_neutralise_all)
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24, sort_keys=False
            )
        )
    else:
        processors.append(structlog.processors.format_exc_info)
        # ASCII only: nothing in a value can end the line or change its direction.
        processors.append(structlog.processors.JSONRenderer(ensure_ascii=True, default=str))
    sink = _Sink(stream)
    structlog.configure(
        processors=processors,
        wrapper_class=_at_level(level),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Forward(logging.WARNING)]
    root.setLevel(logging.WARNING)
    for name in _LOGGERS_THAT_QUOTE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of each request that waits for a thread, which on an admin port is no news.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    logging.captureWarnings(True)


def write_line(line: str) -> None:
    """Write a line that is no record where the records go: whole, and whatever the level is."""
    structlog.get_config()["logger_factory"]().msg(line)


def _at_level(level: LogLevel) -> type[structlog.typing.FilteringBoundLogger]:
    return structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])


def set_level(level: LogLevel) -> None:
    """Change the least severe level that is written, for all loggers on which `bind` was not called."""
    structlog.configure(wrapper_class=_at_level(level))


def get_logger(component: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose records carry `component`.

    Until `bind` is called on it, it looks the configuration up at each record, so that modules may make theirs at import.
    Where records are frequent, bind once (per association, say) and use what that returns.
    """
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(component=component))
