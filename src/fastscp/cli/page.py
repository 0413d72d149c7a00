"""What --help shows: the options of the settings' table in their groups, then examples and exit status.

Enters: the table of options. Leaves: click options and the text of help.
Never: a default or a check of its own; click passes on what was written.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import click

from fastscp.settings import Option

Section = tuple[str, list[tuple[str, str]]]

EXIT_STATUS: Section = (
    "Exit status",
    [
        ("0", "drained cleanly: everything that was acknowledged is stored"),
        ("1", "anything else; the last log record says what"),
        ("2", "the configuration is wrong; one line on stderr names the option"),
    ],
)

SERVE_SECTIONS: list[Section] = [
    (
        "Examples",
        [
            ("fastscp serve --store /data/dicom", "receive on port 11112 into a directory"),
            ("fastscp serve --peers 10.1.0.0/16 --require-calling-aet CT1,CT2", "from two scanners of one network only"),
            ("FASTSCP_PORT=104 fastscp serve --config /etc/fastscp.toml", "a file, and one value over it"),
            ("fastscp config --config /etc/fastscp.toml", "check a file before it is used"),
        ],
    ),
    (
        "Values",
        [
            ("SIZE", "bytes, or with a unit: 1048576, 1MiB, 1MB"),
            ("SECONDS", "a number of seconds; fractions are possible"),
            ("several values", "the option repeated, or a list with commas; an array in the file"),
        ],
    ),
    (
        "Signals",
        [
            (
                "SIGTERM, SIGINT",
                "drain: accept nothing new, let open associations finish what they are sending for --drain-timeout, "
                "abort the rest, exit. Everything acknowledged is stored.",
            ),
            ("SIGHUP", "read the file again: who may send, limits of associations and of instances, log level. No association is dropped."),
        ],
    ),
    (
        "Output",
        [
            ("stderr", 'log records; the one with "event":"ready" says that associations are accepted'),
            ("GET /livez", "on the admin port: 200 while the process works"),
            ("GET /readyz", "200 while new associations are welcome, else 503 and the reasons as JSON"),
            ("GET /metrics", "counters in the Prometheus text format"),
        ],
    ),
    EXIT_STATUS,
]

GROUP_EPILOG = "fastscp COMMAND --help describes a command and its options."


class _Headings(click.HelpFormatter):
    def write_heading(self, heading: str) -> None:
        super().write_heading(click.style(heading, bold=True))


class _Context(click.Context):
    formatter_class = _Headings


class Group(click.Group):
    """The top of the command.

    Args:
        elsewhere: commands whose modules nobody should have to wait for who runs another one: by name, the module, and the command in it.
    """

    context_class = _Context

    def __init__(self, *args: Any, elsewhere: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module, name = self._elsewhere[cmd_name]
        return cast(click.Command, getattr(importlib.import_module(module), name))


class _SettingOption(click.Option):
    """An option of the table. Its value stays text: the settings check it, in all three forms alike."""

    def __init__(self, setting: Option) -> None:
        kind = setting.declared.kind
        self.setting = setting
        if kind.metavar:
            super().__init__([setting.flag, setting.name], type=str, multiple=kind.many, default=None)
            self.label = f"{setting.flag} {kind.metavar}"
        else:
            super().__init__([f"{setting.flag}/--no-{setting.flag[2:]}", setting.name], default=None)
            self.label = f"--[no-]{setting.flag[2:]}"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        declared = self.setting.declared
        default = declared.shown_default or self.setting.show(self.setting.default)
        repeatable = " Repeatable." if declared.kind.many else ""
        return self.label, f"{declared.help}{repeatable} [default: {default}] [{self.setting.variable}]"


class Page(click.Command):
    """A command whose help is a manual page.

    Args:
        sections: what follows the options: heading, then terms and what is said of them.
    """

    context_class = _Context

    def __init__(self, *args: Any, sections: list[Section] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections or [EXIT_STATUS]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            # What an argument is, the text above the options says.
            if record and isinstance(parameter, click.Option):
                group = parameter.setting.declared.group if isinstance(parameter, _SettingOption) else "General"
                groups.setdefault(group, []).append(record)
        for heading, rows in [*groups.items(), *self.sections]:
            with formatter.section(heading):
                formatter.write_dl(rows)


def setting_options(options: Mapping[str, Option]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: gives a command --config and all these options."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        config = click.Option(["--config"], metavar="FILE", type=str, help="TOML file to read options from. [FASTSCP_CONFIG]")
        # click collects them in this attribute, last first.
        command.__click_params__ = [  # type: ignore[attr-defined]
            *(_SettingOption(setting) for setting in reversed(list(options.values()))),
            config,
            *getattr(command, "__click_params__", []),
        ]
        return command

    return decorate
