"""The command as a person or a script runs it: a process, its output and its exit code."""

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fastscp
from fastscp import cli
from fastscp.errors import ConfigError
from fastscp.settings import OPTIONS, Settings

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("FASTSCP_")}


def fastscp_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastscp", *arguments],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, restored_logging: None) -> Callable[[Callable[[Settings], int]], None]:
    """Replaces what serve runs, so that its ends can be tested without a receiver."""

    def replace(run: Callable[[Settings], int]) -> None:
        module = ModuleType("fastscp.service")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fastscp.service", module)

    for variable in list(os.environ):
        if variable.startswith("FASTSCP_"):
            monkeypatch.delenv(variable)
    return replace


def test_version() -> None:
    result = fastscp_command("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"fastscp {fastscp.__version__}\n", "")


def test_help_of_the_command_names_its_commands() -> None:
    result = fastscp_command("--help")
    assert result.returncode == 0
    assert re.search(r"^  serve .*\n", result.stdout, re.MULTILINE)
    assert re.search(r"^  config .*\n", result.stdout, re.MULTILINE)


def test_help_of_serve_has_every_option_with_default_and_variable() -> None:
    result = fastscp_command("serve", "-h")
    assert result.returncode == 0
    assert result.stderr == ""
    text = " ".join(result.stdout.split())
    for option in OPTIONS.values():
        entry = text[text.index(option.flag.removeprefix("--") if not option.declared.kind.metavar else f"{option.flag} ") :]
        assert option.declared.help.split(". ")[0] in entry
        assert f"[{option.variable}]" in entry
        assert f"[default: {option.declared.shown_default or option.show(option.default)}]" in entry
    headings = re.findall(r"^(\S.*):$", result.stdout, re.MULTILINE)
    assert headings == [
        "General",
        *dict.fromkeys(option.declared.group for option in OPTIONS.values()),
        "Examples",
        "Values",
        "Signals",
        "Output",
        "Exit status",
    ]
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("command", ["serve", "config"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-pdu", "0"], "--max-pdu: '0' is not from 4096 to 1048576"),
        (["--max-pdu", "1\n2"], "--max-pdu: '1\\n2' is not a size"),
        (["--max-pdu"], "'--max-pdu' requires an argument"),
        (["--max-pud", "4096"], "'--max-pud'"),
        (["--store", "s3://Bucket/x"], "--store: 's3://Bucket/x' is not s3://bucket/prefix"),
        (["--config", "/nonexistent/\x1b[2J.toml"], "--config: cannot read '/nonexistent/\\x1b[2J.toml'"),
        (["--peers", "10.0.0.0/8", "--peers", "x"], "--peers: 'x' is not"),
        (["--put-timeout", "40", "--drain-timeout", "40"], "--put-timeout: --put-timeout (40) must be less than --drain-timeout (40)"),
        (["--drain-timeout", "84"], "--drain-timeout: --drain-timeout (84), 5 s for aborts, --put-timeout (30) for manifests and 2 s must"),
        (["--stop-timeout", "111"], "--stop-timeout: --drain-timeout (75), 5 s for aborts"),
        (["surplus"], "surplus"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_option(command: str, arguments: list[str], words: str) -> None:
    result = fastscp_command(command, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("fastscp: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.rstrip("\n").isprintable()
    assert words in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--nope"], ["nope"]])
def test_wrong_use_of_the_command_itself(arguments: list[str]) -> None:
    result = fastscp_command(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("fastscp: ")
    assert result.stderr.count("\n") == 1


def test_environment_and_file_are_named_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("port = 'x'\n")
    assert fastscp_command("serve", FASTSCP_AET="").stderr.startswith("fastscp: FASTSCP_AET: ")
    assert fastscp_command("serve", FASTSCP_XYZZY="1").stderr == "fastscp: FASTSCP_XYZZY: unknown variable\n"
    assert fastscp_command("serve", FASTSCP_CONFIG=str(file)).stderr.startswith(f"fastscp: {file}: port: ")


def test_config_prints_a_file_that_config_reads(tmp_path: Path) -> None:
    arguments = [
        "--peers",
        "10.0.0.0/8,::1",
        "--require-calling-aet",
        'A"B',
        "--no-require-called-aet",
        "--idle-timeout",
        "1.5",
        "--fsync",
        "no",
    ]
    first = fastscp_command("config", *arguments, FASTSCP_AET="HERE")
    assert (first.returncode, first.stderr) == (0, "")
    assert 'aet = "HERE"  # environment FASTSCP_AET\n' in first.stdout
    assert "idle_timeout = 1.5  # flag\n" in first.stdout
    assert "port = 11112  # default\n" in first.stdout
    entries = tomllib.loads(first.stdout)
    assert set(entries) == set(OPTIONS)
    assert entries["peers"] == ["10.0.0.0/8", "::1/128"]
    file = tmp_path / "again.toml"
    file.write_text(first.stdout)
    second = fastscp_command("config", "--config", str(file))
    assert (second.returncode, second.stderr) == (0, "")
    assert tomllib.loads(second.stdout) == entries
    assert f"port = 11112  # file {file}: port\n" in second.stdout


def test_config_as_json_with_all_problems() -> None:
    result = fastscp_command("config", "--json", "--port", "x", "--max-pdu", "1", "--aet", "GOOD")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 2
    answer = json.loads(result.stdout)
    assert answer["problems"] == ["--port: 'x' is not a whole number", "--max-pdu: '1' is not from 4096 to 1048576"]
    assert answer["settings"]["aet"] == {"value": "GOOD", "source": "flag"}
    assert answer["settings"]["max_associations"] == {"value": 300, "source": "default"}
    assert set(answer["settings"]) == set(OPTIONS)


def test_config_on_a_terminal_is_a_table() -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastscp", "config", "--aet", "WATCHED"], env=ENVIRONMENT | {"TERM": "xterm"}, stdout=terminal
    )
    os.close(terminal)
    output = b""
    # Reading fails, on Linux, or ends once the process has closed its side.
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:
            break
        if not piece:
            break
        output += piece
    os.close(controller)
    assert process.wait(timeout=60) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", output.decode())
    assert re.search(r"--aet +WATCHED +flag", text)
    assert re.search(r"--port +11112 +default", text)


def test_a_reader_that_has_enough_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "fastscp", "config"],
        env=ENVIRONMENT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize("code", [0, 1])
def test_serve_passes_settings_and_exit_code_on(service: Callable[..., None], code: int) -> None:
    seen: list[Settings] = []

    def run(settings: Settings, read_settings: Callable[[], Settings]) -> int:
        seen.append(settings)
        return code

    service(run)
    assert cli.main(["serve", "--port", "0", "--store", "null:", "--peers", "10.0.0.0/8", "--peers", "::1", "--require-called-aet"]) == code
    (settings,) = seen
    assert (settings.port, settings.store.kind, len(settings.peers), settings.require_called_aet) == (0, "null", 2, True)


def test_what_serve_finds_wrong_with_the_configuration(service: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def run(settings: Settings, read_settings: Callable[[], Settings]) -> int:
        raise ConfigError("--port", f"cannot listen on {settings.port}")

    service(run)
    assert cli.main(["serve"]) == 2
    assert capsys.readouterr().err == "fastscp: --port: cannot listen on 11112\n"


@pytest.mark.parametrize(("form", "level", "traceback"), [("json", "info", True), ("console", "info", False), ("console", "debug", True)])
def test_anything_else_is_one_record(
    service: Callable[..., None], capsys: pytest.CaptureFixture[str], form: str, level: str, traceback: bool
) -> None:
    def run(settings: Settings, read_settings: Callable[[], Settings]) -> int:
        raise RuntimeError("no luck")

    service(run)
    assert cli.main(["serve", "--log-format", form, "--log-level", level]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    records = [line for line in captured.err.splitlines() if not line.startswith("    | ")]
    assert len(records) == 1
    assert "failed" in records[0]
    assert "RuntimeError: no luck" in records[0]
    assert ("Traceback" in captured.err) is traceback


def test_an_interrupt_before_the_service_runs(service: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def run(settings: Settings, read_settings: Callable[[], Settings]) -> int:
        raise KeyboardInterrupt

    service(run)
    assert cli.main(["serve"]) == 1
    assert "Traceback" not in capsys.readouterr().err
