"""Connections, and threads whose exceptions are not lost.

Enters: a test. Leaves: sockets closed and threads ended after it. Never: a fixture that hides a step.
"""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reference.wiring import LONG_S, Connection, tcp_pair


@pytest.fixture(params=["tcp", "unix"])
def line(request: pytest.FixtureRequest) -> Iterator[Connection]:
    opened = Connection(*(tcp_pair() if request.param == "tcp" else socket.socketpair()))
    yield opened
    opened.close()


@pytest.fixture
def tcp() -> Iterator[Connection]:
    opened = Connection(*tcp_pair())
    yield opened
    opened.close()


@pytest.fixture
def beside() -> Iterator[Callable[..., Any]]:
    """Runs a function in another thread; what it raised is raised at the end of the test."""
    with ThreadPoolExecutor() as threads:
        running = []

        def start(function: Callable[..., Any], *arguments: Any) -> Any:
            running.append(threads.submit(function, *arguments))
            return running[-1]

        yield start
        for future in running:
            future.result(LONG_S)
