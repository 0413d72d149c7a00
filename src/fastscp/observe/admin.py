"""The admin port: GET /livez, /readyz and /metrics over HTTP, read-only.

Enters: requests of an orchestrator or a scraper. Leaves: what health and metrics say.
Never: a change to the receiver, a wait that an association would notice.
"""

import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from waitress import wasyncore
from waitress.server import create_server

from fastscp.errors import ConfigError
from fastscp.observe.health import Health

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_Answer = tuple[HTTPStatus, str, bytes]

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class AdminServer:
    """Serves from threads of its own between `start` and `stop`."""

    def __init__(self, host: str, port: int, health: Health, render: Callable[[], bytes]) -> None:
        """
        Args:
            host: address to listen on.
            port: 0 takes a free one; see the attribute `port` after `start`.
            render: all metrics in the Prometheus text format.
        """
        self.host = host
        self.port = port
        self._health = health
        self._render = render
        self._routes: dict[str, Callable[[], _Answer]] = {"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics}

    def start(self) -> None:
        """Listen and serve. Raises ConfigError where the address cannot be had."""
        listener = self._listen()
        self.port = listener.getsockname()[1]
        self._map: dict[int, object] = {}
        self._server = create_server(
            self._application,
            map=self._map,
            sockets=[listener],
            threads=2,
            connection_limit=64,
            channel_timeout=30,
            max_request_body_size=1024,
            max_request_header_size=16384,
            # select() ends at descriptor 1023, and every association has one.
            asyncore_use_poll=True,
            clear_untrusted_proxy_headers=True,
            log_socket_errors=False,
            ident=None,
        )
        self._thread = threading.Thread(target=self._server.run, name="fastscp-admin", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the port. Idle connections are cut."""
        # The tasks first: one that ends later would write to the trigger's descriptor after it was closed and perhaps reused.
        self._server.task_dispatcher.shutdown()
        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._map, ignore_all=True))
        self._thread.join()

    def _listen(self) -> socket.socket:
        try:
            family, _, _, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        except OSError as error:
            raise ConfigError("--admin-host", f"{self.host!r} cannot be resolved: {error.strerror}") from error
        try:
            return socket.create_server(address[:2], family=family, backlog=64)
        except OSError as error:
            option = "--admin-host" if error.errno == errno.EADDRNOTAVAIL else "--admin-port"
            raise ConfigError(option, f"cannot listen on {self.host} port {self.port}: {os.strerror(error.errno or 0)}") from error

    def _application(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        headers = []
        route = self._routes.get(environ["PATH_INFO"])
        if route is None:
            status, kind, body = HTTPStatus.NOT_FOUND, _TEXT, b"not found\n"
        elif environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, kind, body = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"method not allowed\n"
            headers.append(("Allow", "GET, HEAD"))
        else:
            status, kind, body = route()
        headers += [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _livez(self) -> _Answer:
        dead = self._health.dead_parts()
        if dead:
            return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"dead: {', '.join(dead)}\n".encode()
        return HTTPStatus.OK, _TEXT, b"alive\n"

    def _readyz(self) -> _Answer:
        reasons = self._health.reasons_not_ready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return status, _JSON, json.dumps({"ready": not reasons, "reasons": reasons}).encode() + b"\n"

    def _metrics(self) -> _Answer:
        return HTTPStatus.OK, _METRICS, self._render()
