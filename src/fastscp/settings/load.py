"""Flags over environment over file: the values that hold, where each came from, and what is wrong.

Enters: the flags that were given, the environment, a TOML file. Leaves: Settings and sources, or the first problem.
Never: a guess. What is unknown or unusable is a problem, named as the person wrote it.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from fastscp.errors import ConfigError
from fastscp.settings.jobs import JOBS_OPTIONS, JobsSettings
from fastscp.settings.machine import processor_count
from fastscp.settings.table import ABORT_GRACE_S, EXIT_GRACE_S, FARGATE_STOP_S, OPTIONS, Option, Settings

PREFIX = "FASTSCP_"
CONFIG_VARIABLE = "FASTSCP_CONFIG"
# Chooses the build of the native modules, in setup.py.
_FOREIGN_VARIABLES = frozenset({"FASTSCP_BUILD"})
# One environment and one file may serve all commands: an option of another one is known, and passed over.
_KNOWN = OPTIONS | JOBS_OPTIONS
_KNOWN_VARIABLES = frozenset(option.variable for option in _KNOWN.values())


class Inspection(msgspec.Struct, frozen=True):
    """Everything that can be said of a configuration.

    Attributes:
        settings: None where there is a problem.
        values: value by option name; the default where the given one is unusable.
        sources: "default", "flag", "environment FASTSCP_X" or "file PATH: key", by option name.
        problems: in the order of the table.
    """

    settings: Settings | None
    values: dict[str, Any]
    sources: dict[str, str]
    problems: list[ConfigError]


class _Given(msgspec.Struct, frozen=True):
    """A value as somebody wrote it: `called` is the option's name in their form."""

    called: str
    source: str
    value: object


def _closest(word: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (is {prefix}{close[0]} meant?)" if close else ""


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _read_file(path: str, called: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path that is none is an error to report, here
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(called, f"cannot read {path!r}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(called, f"{path!r} is not a TOML file: {_one_line(error)}") from error


def _from_file(
    options: Mapping[str, Option], flags: Mapping[str, object], environ: Mapping[str, str], problems: list[ConfigError]
) -> dict[str, _Given]:
    path, called = flags.get("config"), "--config"
    if path is None:
        path, called = environ.get(CONFIG_VARIABLE), CONFIG_VARIABLE
    if path is None:
        return {}
    try:
        entries = _read_file(str(path), called)
    except ConfigError as error:
        problems.append(error)
        return {}
    given = {}
    for key, value in entries.items():
        if key in options:
            given[key] = _Given(f"{path}: {key}", f"file {path}: {key}", value)
        elif key not in _KNOWN:
            problems.append(
                ConfigError(f"{path}: {key!r}" if not key.isidentifier() else f"{path}: {key}", f"unknown option{_closest(key, options)}")
            )
    return given


def _from_environment(options: Mapping[str, Option], environ: Mapping[str, str], problems: list[ConfigError]) -> dict[str, _Given]:
    by_variable = {option.variable: option for option in options.values()}
    given = {}
    for variable in sorted(environ):
        if variable in by_variable:
            option = by_variable[variable]
            given[option.name] = _Given(variable, f"environment {variable}", environ[variable])
        elif variable.startswith(PREFIX) and variable not in {CONFIG_VARIABLE, *_FOREIGN_VARIABLES, *_KNOWN_VARIABLES}:
            close = _closest(variable.removeprefix(PREFIX), (known.removeprefix(PREFIX) for known in by_variable), PREFIX)
            problems.append(ConfigError(variable, f"unknown variable{close}"))
    return given


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"a {type(value).__name__} is not possible here")


def _parse(option: Option, given: _Given) -> Any:
    """Raises ValueError. Several values are a list in a file, and separated by commas elsewhere."""
    kind = option.declared.kind
    if not kind.many:
        return kind.parse(_as_text(given.value))
    match given.value:
        case "":
            return ()
        case str():
            texts: Iterable[object] = [text.strip() for text in given.value.split(",")]
        case list():
            texts = given.value
        case tuple():
            texts = [text.strip() for one in given.value for text in _as_text(one).split(",")]
        case _:
            texts = [given.value]
    return tuple(dict.fromkeys(kind.parse(_as_text(text)) for text in texts))


def _contradictions(settings: Settings, called: Mapping[str, str], environ: Mapping[str, str]) -> Iterable[ConfigError]:
    def between(*names: str, problem: str) -> ConfigError:
        # The one to name is the first that somebody chose.
        name = next((name for name in names if called[name]), names[0])
        return ConfigError(called[name] or OPTIONS[name].flag, problem)

    if settings.put_timeout_s >= settings.drain_timeout_s:
        yield between(
            "put_timeout",
            "drain_timeout",
            problem=f"--put-timeout ({settings.put_timeout_s:g}) must be less than --drain-timeout ({settings.drain_timeout_s:g})",
        )
    ladder_s = settings.drain_timeout_s + ABORT_GRACE_S + settings.put_timeout_s + EXIT_GRACE_S
    if ladder_s > settings.stop_timeout_s:
        problem = (
            f"--drain-timeout ({settings.drain_timeout_s:g}), {ABORT_GRACE_S:g} s for aborts, --put-timeout ({settings.put_timeout_s:g}) "
            f"for manifests and {EXIT_GRACE_S:g} s must be at most --stop-timeout ({settings.stop_timeout_s:g})"
        )
        yield between("drain_timeout", "put_timeout", "stop_timeout", problem=problem)
    # Fargate says so itself, and would end the process before its time, whatever it was told.
    if environ.get("AWS_EXECUTION_ENV") == "AWS_ECS_FARGATE" and settings.stop_timeout_s > FARGATE_STOP_S:
        yield between("stop_timeout", problem=f"--stop-timeout ({settings.stop_timeout_s:g}) is at most {FARGATE_STOP_S:g} on Fargate")
    if settings.spill_threshold_bytes > settings.memory_budget_bytes // settings.workers:
        threshold, budget = (
            OPTIONS[name].show(getattr(settings, OPTIONS[name].attribute)) for name in ("spill_threshold", "memory_budget")
        )
        each = f" divided by --workers ({settings.workers})" if settings.workers > 1 else ""
        problem = f"--spill-threshold ({threshold}) must be at most --memory-budget ({budget}){each}"
        yield between("spill_threshold", "memory_budget", problem=problem)
    if settings.port == settings.admin_port != 0:
        yield between("admin_port", "port", problem=f"--port and --admin-port are both {settings.port}")


def _collect(
    options: Mapping[str, Option], flags: Mapping[str, object], environ: Mapping[str, str] | None
) -> tuple[dict[str, Any], dict[str, _Given], list[ConfigError]]:
    """Values by option name, what was given, and what is wrong with it."""
    environ = os.environ if environ is None else environ
    problems: list[ConfigError] = []
    given = _from_file(options, flags, environ, problems) | _from_environment(options, environ, problems)
    given |= {name: _Given(option.flag, "flag", flags[name]) for name, option in options.items() if flags.get(name) not in (None, ())}
    values = {name: option.default for name, option in options.items()}
    for name, option in options.items():
        if name in given:
            try:
                values[name] = _parse(option, given[name])
            except ValueError as error:
                problems.append(ConfigError(given[name].called, str(error)))
    return values, given, problems


def inspect_settings(flags: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Inspection:
    """All values, sources and problems.

    Args:
        flags: value by option name, and "config" for the file; None is as good as not given.
        environ: the process' environment where None.
    """
    values, given, problems = _collect(OPTIONS, flags, environ)
    sources = {name: given[name].source if name in given else "default" for name in OPTIONS}
    if problems:
        return Inspection(None, values, sources, problems)
    if "workers" not in given and values["store"].kind == "s3":
        # The clients of S3 are Python, and each process has an interpreter; the other stores commit in native code, where one process
        # is faster than several (benchmarks: works "small-null-8", "ct-null-8").
        values["workers"] = processor_count()
    settings = Settings(**{option.attribute: values[name] for name, option in OPTIONS.items()})
    environ = os.environ if environ is None else environ
    problems += _contradictions(settings, {name: given[name].called if name in given else "" for name in OPTIONS}, environ)
    return Inspection(None if problems else settings, values, sources, problems)


def replace_environment(beginning: str, changes: Mapping[str, str]) -> dict[str, str]:
    """Forget all variables that begin so and set these, for this process and those that it starts. Returns the environment."""
    for name in [name for name in os.environ if name.startswith(beginning)]:
        del os.environ[name]
    os.environ.update(changes)
    return dict(os.environ)


def load_settings(flags: Mapping[str, object]) -> tuple[Settings, dict[str, str]]:
    """The settings that hold, and the source of each by option name. Raises ConfigError."""
    inspection = inspect_settings(flags)
    if inspection.settings is None:
        raise inspection.problems[0]
    return inspection.settings, inspection.sources


def load_jobs_settings(flags: Mapping[str, object]) -> JobsSettings:
    """The settings of `fastscp jobs` that hold. Raises ConfigError."""
    values, _, problems = _collect(JOBS_OPTIONS, flags, None)
    if problems:
        raise problems[0]
    return JobsSettings(**{option.attribute: values[name] for name, option in JOBS_OPTIONS.items()})
