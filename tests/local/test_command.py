"""`fastscp local` as a person runs it: what it says, what it leaves, how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fastscp.errors import ConfigError
from fastscp.local import deployed
from fastscp.local.deployed import functions_directory, templates_directory
from tests.peers.raw_scu import RawScu
from tests.peers.server import process_tree, wait_until
from tests.service_process.test_crash import begin_large_instance

ROOT = Path(__file__).parents[2]


class Command:
    """`fastscp local` in a session of its own, its output line by line."""

    def __init__(self, *options: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastscp", "local", "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "COLUMNS": "200", "AWS_PROFILE": "absent", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout_s: float = 100) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def there() -> bool:
            assert self.process.poll() is None or re.search(pattern, self.output), self.output
            found.extend(re.finditer(pattern, self.output))
            return bool(found)

        try:
            wait_until(there, f"it says {pattern!r}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from error
        return found[0]

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        code = self.process.wait(100)
        self._reader.join(10)
        return code


def assert_ended(pids: list[int]) -> None:
    """None of them runs any more. What nobody has asked for its exit code yet has ended all the same."""

    def running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    wait_until(lambda: not any(map(running, pids)), f"all of {pids} have ended", 20)


@pytest.fixture
def run() -> Any:
    started: list[Command] = []

    def start(*options: str) -> Command:
        started.append(Command(*options))
        return started[-1]

    yield start
    for command in started:
        for pid in reversed(process_tree(command.process.pid)):
            if command.process.poll() is None or pid != command.process.pid:
                os.kill(pid, signal.SIGKILL)
        command.process.wait()


@pytest.mark.requires_linux
def test_the_demonstration_ends_with_image_sets_and_leaves_nothing_behind(run: Any) -> None:
    command = run("--demo")
    command.wait_for("Image sets")
    command.wait_for(r"(?s)Image sets.*Ctrl-C ends it")
    tree = process_tree(command.process.pid)
    assert len(tree) >= 3, "the receiver and at least one process for functions"
    assert command.stop() == 0, command.output
    assert_ended(tree)
    output = command.output
    assert output.count("0000 Success") == 13
    batches = {step: re.findall(rf"  {step} +([0-9a-f]+-[0-9a-f]+)  ", output) for step in ("received", "started", "imported")}
    assert len(batches["received"]) == 13
    assert sorted(batches["received"]) == sorted(batches["started"]) == sorted(batches["imported"])
    assert output.count("1 of 1 instance") == 13
    # Each line of the table of image sets ends in an id.
    assert len(re.findall(r"│ [0-9a-z]{32} │", output)) == 13
    assert re.search(r"storescu -aec FASTSCP \+sd \+r 127\.0\.0\.1 \d+ <folder", output)
    assert re.search(r"export AWS_ENDPOINT_URL=http://127\.0\.0\.1:\d+", output)
    assert "Drained, everything acknowledged is stored." in output


def test_a_wrong_option_ends_it_before_anything_starts(run: Any) -> None:
    command = run("--max-pdu", "1")
    assert command.end() == 2
    assert command.lines == ["fastscp: --max-pdu: '1' is not from 4096 to 1048576"]


def test_a_port_that_is_taken_ends_it_with_the_receivers_words(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = run("--host", "127.0.0.1", "--port", port)
        assert command.end() == 2
        assert "--port" in command.lines[-1]
        assert port in command.lines[-1]


def test_an_endpoint_port_that_is_taken_ends_it(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = run("--endpoint-port", str(taken.getsockname()[1]))
        assert command.end() == 2
        assert "--endpoint-port" in command.lines[-1]


def test_the_options_that_it_decides_itself_are_not_taken(run: Any) -> None:
    command = run("--store", "elsewhere")
    assert command.end() == 2
    assert "--store" in command.lines[-1]


def test_a_receiver_that_dies_ends_it(run: Any) -> None:
    command = run()
    command.wait_for("Ctrl-C ends it")
    (receiver,) = [pid for pid in process_tree(command.process.pid) if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    os.kill(receiver, signal.SIGKILL)
    assert command.end() == 1
    assert "The receiver ended" in command.output


@pytest.mark.requires_linux
def test_who_insists_does_not_wait_for_the_drain_and_leaves_nothing_behind(run: Any) -> None:
    command = run("--host", "127.0.0.1")
    port = int(command.wait_for(r"listens on port (\d+)")[1])
    command.wait_for("Ctrl-C ends it")
    with RawScu(port) as scu:
        # In the middle of an instance, for whose end a drain waits.
        begin_large_instance(scu)
        tree = process_tree(command.process.pid)
        command.process.send_signal(signal.SIGINT)
        command.wait_for("Draining")
        assert command.stop() == 1
    assert_ended(tree)


def test_functions_and_templates_are_those_of_the_checkout_or_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same file: a build with coverage has links to them.
    assert functions_directory().samefile(ROOT / "lambdas")
    assert templates_directory().samefile(ROOT / "cfn")
    monkeypatch.setattr(deployed, "_CHECKOUT", tmp_path / "site-packages")
    with pytest.raises(ConfigError, match="lacks lambdas"):
        functions_directory()
    with pytest.raises(ConfigError, match=r"lacks cfn/main\.yaml"):
        templates_directory()
    (tmp_path / "bundled" / "lambdas").mkdir(parents=True)
    (tmp_path / "bundled" / "cfn").mkdir()
    (tmp_path / "bundled" / "cfn" / "main.yaml").touch()
    monkeypatch.setattr(deployed, "_BUNDLED", tmp_path / "bundled")
    assert functions_directory() == tmp_path / "bundled" / "lambdas"
    assert templates_directory() == tmp_path / "bundled" / "cfn"
