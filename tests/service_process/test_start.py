"""Starts that cannot succeed: exit code 2 and one line that names the option.

Enters: unusable surroundings. Leaves: an exit code and a line. Never: a receiver that runs without what it was told to use.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, run_to_exit
from tests.service_process.filesystems import tmpfs


def assert_names(output: str, option: str) -> None:
    lines = [line for line in output.splitlines() if line.strip()]
    assert len(lines) == 1, output
    assert option in lines[0]
    assert "Traceback" not in output


def test_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, output = run_to_exit(tmp_path, port=taken.getsockname()[1])
    assert code == 2
    assert_names(output, "--port")


def test_the_admin_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, output = run_to_exit(tmp_path, "--admin-port", str(taken.getsockname()[1]))
    assert code == 2
    assert_names(output, "--admin-port")


def test_the_store_is_a_file(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"")
    code, output = run_to_exit(place)
    assert code == 2
    assert_names(output, "--store")


def test_the_store_is_read_only(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", size_mib=1, read_only=True) as mounted:
        code, output = run_to_exit(mounted / "received")
    assert code == 2
    assert_names(output, "--store")


@pytest.mark.parametrize(("option", "value"), [("--max-pdu", "12"), ("--peers", "300.1.1.1"), ("--on-duplicate", "ignore"), ("--aet", "")])
def test_an_unusable_value(tmp_path: Path, option: str, value: str) -> None:
    code, output = run_to_exit(tmp_path, option, value)
    assert code == 2
    assert option in output
    assert "Traceback" not in output


def test_both_versions_of_ip(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", "--host", "::") as server:
        for host in ("::1", "127.0.0.1"):
            with RawScu(server.port, host=host) as scu:
                scu.associate()
                scu.release()
        assert server.stop() == 0


def test_ready_is_said_once_in_a_record_of_its_own(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received") as server:
        assert len(server.events("ready")) == 1
        assert server.get("/readyz")[0] == server.get("/livez")[0] == 200
        assert server.get("/nowhere")[0] == 404
        assert server.stop() == 0
