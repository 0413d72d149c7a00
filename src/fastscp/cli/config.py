"""The effective configuration, shown.

Enters: the flags that were given. Leaves: a table, a TOML file or a JSON object on stdout, and the problems.
Never: a change to anything.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastscp.errors import ConfigError
from fastscp.settings import OPTIONS, Inspection, Option, inspect_settings


def _plain(option: Option, value: Any) -> Any:
    """A value of the types that JSON and TOML share."""
    if option.declared.kind.many:
        return [option.declared.kind.show(one) for one in value]
    return value if isinstance(value, bool | int | float) else option.show(value)


def _json(inspection: Inspection) -> str:
    settings = {
        name: {"value": _plain(option, inspection.values[name]), "source": inspection.sources[name]} for name, option in OPTIONS.items()
    }
    return json.dumps({"settings": settings, "problems": [str(problem) for problem in inspection.problems]}, indent=2)


def _toml(inspection: Inspection) -> str:
    lines = []
    for name, option in OPTIONS.items():
        # A JSON string, number, bool or array of strings is one in TOML too.
        lines.append(f"{name} = {json.dumps(_plain(option, inspection.values[name]))}  # {ascii(inspection.sources[name])[1:-1]}")
    return "\n".join(lines)


def _table(inspection: Inspection) -> Table:
    table = Table("option", "value", "source", box=None, pad_edge=False)
    group = ""
    for name, option in OPTIONS.items():
        if option.declared.group != group:
            group = option.declared.group
            table.add_row(Text(group, "bold"), "", "")
        source = inspection.sources[name]
        value = option.show(inspection.values[name]) or option.declared.shown_default
        table.add_row(Text("  " + option.flag), Text(value), Text(source, "dim" if source == "default" else "green"))
    return table


def show_config(flags: Mapping[str, object], *, as_json: bool) -> list[ConfigError]:
    """Print the configuration and return what is wrong with it."""
    inspection = inspect_settings(flags)
    if as_json:
        print(_json(inspection))
    elif sys.stdout.isatty():
        Console().print(_table(inspection))
    else:
        print(_toml(inspection))
    return inspection.problems
