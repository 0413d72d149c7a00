"""The command fastscp local.

Enters: the command line. Leaves: what `fastscp.local` runs with, and its exit code. Never: a bucket outside this machine.
"""

from pathlib import Path
from typing import Any

import click

from fastscp.cli.page import EXIT_STATUS, Page, Section, setting_options
from fastscp.errors import ConfigError
from fastscp.settings import OPTIONS, load_settings

# What this command decides itself.
_OWN = ("store", "log_format", "aws_region", "bucket_owner", "encryption", "kms_key")
_RECEIVER_OPTIONS = {name: option for name, option in OPTIONS.items() if name not in _OWN}
# A person at a laptop does not want to wait as long as a hospital can; the port of the metrics is nobody's concern.
_DEFAULTS = {"quiet_period": "2", "admin_port": "0"}

_SECTIONS: list[Section] = [
    (
        "Examples",
        [
            ("fastscp local --demo", "sample images, from a real sender to imported image sets"),
            ("fastscp local --data ./hospital", "keep what was imported for the next time"),
            ("fastscp local --port 104 --aet PACS", "every option of serve that does not concern the store"),
        ],
    ),
    EXIT_STATUS,
]


@click.command("local", cls=Page, sections=_SECTIONS)
@click.option("--demo", is_flag=True, help="Send sample images, and show what was imported.")
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data of the embedded AWS there. [default: nowhere]",
)
@click.option(
    "--endpoint-port", metavar="NUMBER", type=click.IntRange(0, 65535), default=0, help="Port of the embedded AWS; 0 takes a free one."
)
@setting_options(_RECEIVER_OPTIONS)
def local_command(demo: bool, data: Path | None, endpoint_port: int, **flags: Any) -> int:
    """Receive, import and look at images on this machine, without AWS.

    Runs the receiver beside an embedded AWS: S3, SQS, Lambda, Step Functions and DynamoDB, and an emulator of AWS HealthImaging.
    What it is made from are the templates, the functions and the state machine that are deployed. All of it ends with Ctrl-C.
    """
    # The templates say which store it is; with any in S3, all other options can be checked here and now.
    settings, sources = load_settings({**flags, "store": "s3://fastscp-dicom"})
    given = [text for name, option in _RECEIVER_OPTIONS.items() for text in _as_flags(option.flag, flags.get(name))]
    if flags.get("config") is not None:
        given += ["--config", str(flags["config"])]
    for name, value in _DEFAULTS.items():
        if sources[name] == "default":
            given += [_RECEIVER_OPTIONS[name].flag, value]
    try:
        from fastscp.local.command import LocalOptions, run
        from fastscp.local.embedded import EmbeddedOptions
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("fastscp"):
            raise
        raise ConfigError("fastscp local", f"{error.name} is not installed: pip install 'fastscp[local]'") from error
    wildcard = settings.host in ("0.0.0.0", "::")
    host = "127.0.0.1" if wildcard else settings.host
    embedded = EmbeddedOptions(port=endpoint_port, data=data)
    return run(LocalOptions(receiver=given, host=host, aet=settings.aet, demo=demo, embedded=embedded))


def _as_flags(flag: str, value: Any) -> list[str]:
    if value is None or value == ():
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    return [text for one in (value if isinstance(value, tuple) else (value,)) for text in (flag, str(one))]
