"""The command fastscp.

Enters: the command line. Leaves: results on stdout, one line on stderr for what is wrong, an exit code.
Never: a traceback on a terminal, a setting of its own.
"""

import os
import sys
from collections.abc import Sequence

import click

from fastscp import __version__
from fastscp.cli.config import show_config
from fastscp.cli.page import GROUP_EPILOG, SERVE_SECTIONS, Group, Page, setting_options
from fastscp.errors import CommandError, ConfigError
from fastscp.observe import log
from fastscp.settings import OPTIONS, load_settings

OK, FAILED, BAD_CONFIGURATION = 0, 1, 2

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


_ELSEWHERE = {"jobs": ("fastscp.cli.jobs", "jobs_command"), "local": ("fastscp.cli.local", "local_command")}


@click.group(cls=Group, context_settings=_CONTEXT, no_args_is_help=False, epilog=GROUP_EPILOG, elsewhere=_ELSEWHERE)
@click.version_option(__version__, prog_name="fastscp", message="%(prog)s %(version)s", help="Print the version.")
def _fastscp() -> None:
    """Receive DICOM instances (C-STORE) at the speed of the wire, and acknowledge only what is committed."""


@_fastscp.command(cls=Page, sections=SERVE_SECTIONS)
@setting_options(OPTIONS)
def serve(**flags: object) -> int:
    """Receive instances until SIGTERM or Ctrl-C.

    Every option has three forms: --max-pdu on the command line, FASTSCP_MAX_PDU in the environment and max_pdu in the TOML file
    that --config names. The command line wins over the environment, the environment over the file.
    """
    settings, _ = load_settings(flags)
    log.configure(settings.log_level, settings.log_format)
    try:
        # Here, so that help and errors in the configuration do not wait for the native modules.
        from fastscp.service import run

        return run(settings, lambda: load_settings(flags)[0])
    except ConfigError:
        raise
    except Exception as error:
        # Nobody after this one could turn it into a record.
        log.get_logger("cli").error("failed", reason=f"{type(error).__name__}: {error}", exc_info=True)
        return FAILED


@_fastscp.command(cls=Page)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: settings and problems.")
@setting_options(OPTIONS)
def config(as_json: bool, **flags: object) -> int:
    """Show the configuration that serve would run with, the source of each value, and what is wrong with it.

    Takes the options of serve. On a terminal the answer is a table; elsewhere it is a TOML file that --config takes.
    Exits with 2 where something is wrong.
    """
    problems = show_config(flags, as_json=as_json)
    for problem in problems:
        _complain(str(problem))
    return BAD_CONFIGURATION if problems else OK


def _complain(problem: str) -> None:
    print("fastscp: " + log.visible(" ".join(problem.split())), file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        result = _fastscp.main(arguments, prog_name="fastscp", standalone_mode=False)
        sys.stdout.flush()
    except ConfigError as error:
        _complain(str(error))
        return BAD_CONFIGURATION
    except CommandError as error:
        _complain(str(error))
        return FAILED
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "fastscp"
        _complain(f"{error.format_message()} (see {command} --help)")
        return BAD_CONFIGURATION
    except (click.Abort, KeyboardInterrupt):
        return FAILED
    except BrokenPipeError:
        # Whoever read stdout has enough. The interpreter would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return int(result or OK)
