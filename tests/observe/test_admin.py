"""The admin port over real HTTP."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from fastscp.errors import ConfigError
from fastscp.observe.admin import AdminServer
from fastscp.observe.health import Health


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def admin(health: Health) -> Iterator[AdminServer]:
    server = AdminServer("127.0.0.1", 0, health, lambda: b"some 1.0\n")
    server.start()
    yield server
    server.stop()


def ask(admin: AdminServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_the_free_port_taken_is_readable(admin: AdminServer) -> None:
    assert admin.port > 0


def test_livez_is_200_while_the_watched_parts_live(admin: AdminServer, health: Health) -> None:
    assert ask(admin, "/livez")[0] == 200
    stop = threading.Event()
    part = threading.Thread(target=stop.wait)
    part.start()
    health.watch("acceptor", part.is_alive)
    assert ask(admin, "/livez")[0] == 200
    stop.set()
    part.join()
    status, _, body = ask(admin, "/livez")
    assert (status, body) == (503, b"dead: acceptor\n")
    health.unwatch("acceptor")
    assert ask(admin, "/livez")[0] == 200


def test_readyz_tells_the_reasons(admin: AdminServer, health: Health) -> None:
    status, headers, body = ask(admin, "/readyz")
    assert (status, headers["content-type"]) == (503, "application/json")
    assert json.loads(body) == {"ready": False, "reasons": {"service": "starting"}}
    health.set_ready("acceptor", True)
    assert ask(admin, "/readyz")[0] == 200
    health.set_ready("store", False, "disk full")
    health.set_ready("acceptor", False, "draining")
    status, _, body = ask(admin, "/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == {"acceptor": "draining", "store": "disk full"}
    health.set_ready("store", True)
    health.set_ready("acceptor", True)
    reasons = {"worker 1": "starting"}
    health.ask(lambda: reasons)
    assert json.loads(ask(admin, "/readyz")[2])["reasons"] == {"worker 1": "starting"}
    reasons.clear()
    assert json.loads(ask(admin, "/readyz")[2]) == {"ready": True, "reasons": {}}


def test_metrics_are_in_the_prometheus_format(admin: AdminServer) -> None:
    status, headers, body = ask(admin, "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert body == b"some 1.0\n"


@pytest.mark.parametrize("path", ["/", "/livez/", "/metricsx", "/..%2f..%2fetc/passwd"])
def test_anything_else_is_404(admin: AdminServer, path: str) -> None:
    assert ask(admin, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405(admin: AdminServer, method: str) -> None:
    status, headers, _ = ask(admin, "/metrics", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_head_has_the_length_and_no_body(admin: AdminServer) -> None:
    status, headers, body = ask(admin, "/livez", "HEAD")
    assert (status, headers["content-length"], body) == (200, "6", b"")


def test_no_banner_names_the_software(admin: AdminServer) -> None:
    assert "server" not in ask(admin, "/livez")[1]


def test_a_taken_port_is_a_configuration_error(admin: AdminServer, health: Health) -> None:
    with pytest.raises(ConfigError) as caught:
        AdminServer("127.0.0.1", admin.port, health, bytes).start()
    assert caught.value.option == "--admin-port"
    assert str(admin.port) in str(caught.value)


def test_an_address_that_is_not_ours_is_a_configuration_error(health: Health) -> None:
    with pytest.raises(ConfigError) as caught:
        AdminServer("192.0.2.1", 0, health, bytes).start()
    assert caught.value.option == "--admin-host"


def test_stop_closes_the_port_with_a_connection_open(health: Health) -> None:
    server = AdminServer("127.0.0.1", 0, health, bytes)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as idle:
        server.stop()
        # A reset where it was still in the queue.
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=30)


def test_it_serves_over_ipv6(health: Health) -> None:
    server = AdminServer("::1", 0, health, bytes)
    try:
        server.start()
    except ConfigError:
        pytest.skip("no IPv6 loopback on this machine")
    try:
        connection = http.client.HTTPConnection("::1", server.port, timeout=30)
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        server.stop()
