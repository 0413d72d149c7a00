"""A proxy before an S3 server that does to each request what a test says: delays, cuts, refuses, or forwards it and swallows the answer.

Enters: requests over plain HTTP on loopback. Leaves: the server's answers, or what a fault leaves of them, and a list of all calls.
Never: a request that is forwarded twice, a connection that outlives the proxy.
"""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

LONGEST_WAIT_S = 60.0
LATENCY_S = 0.05

Fault = Literal[
    "latency",
    "reset",
    "half-close",
    "drip",
    "cut-request",
    "cut-answer",
    "slow-down",
    "internal-error",
    "error-in-200",
    "silent",
    "silent-after-commit",
    "reset-after-commit",
    "half-close-after-commit",
    "internal-error-after-commit",
    "denied",
    "no-such-bucket",
]
"""What can be done to one call.

latency: 50 ms more. reset: after half of the request. half-close: the request is read, and the sending side closed without an answer.
drip: the answer comes a byte at a time. cut-request: the server gets half of the body. cut-answer: half of the answer comes. slow-down
(503), internal-error (500), error-in-200, denied (403), no-such-bucket (404): answers in place of the server's. silent: nothing happens.
...-after-commit: the server has the request and its answer is lost like that.
"""

_ANSWERS: dict[str, tuple[int, str]] = {
    "slow-down": (503, "SlowDown"),
    "internal-error": (500, "InternalError"),
    "error-in-200": (200, "InternalError"),
    "denied": (403, "AccessDenied"),
    "no-such-bucket": (404, "NoSuchBucket"),
}


class Call(NamedTuple):
    """One request, as a test names it.

    Attributes:
        store: prefix of the store, the first part of the key.
        area: what lies there: instances, open or batches.
        ordinal: counts the calls of this operation, store and area, from 1.
        key: the whole key.
    """

    operation: str
    store: str
    area: str
    ordinal: int
    key: str

    def __str__(self) -> str:
        return f"{self.operation}-{self.area}-{self.ordinal}"


@dataclass
class Hold:
    """Stops a call before the server has it, or after it has answered, until it is released.

    Attributes:
        drop: whether the call, once released, is forgotten: without an answer, and unless it was held after, without effect.
    """

    after: bool
    drop: bool = False

    def __post_init__(self) -> None:
        self.reached = threading.Event()
        self._released = threading.Event()

    def wait_reached(self) -> None:
        """Wait until the call stands still."""
        assert self.reached.wait(LONGEST_WAIT_S), "the call that was to be held did not come"

    def release(self, *, drop: bool = False) -> None:
        """Let it go on."""
        self.drop = drop
        self._released.set()

    def stand(self) -> None:
        """Called in the proxy: stand still."""
        self.reached.set()
        self._released.wait(LONGEST_WAIT_S)


Plan = Callable[[Call], Fault | Hold | None]


def nothing(call: Call) -> None:
    """The plan of a proxy that only looks on."""


class FaultProxy:
    """Between its `with` and the end of it. Thread-safe.

    Attributes:
        plans: what to do with the calls of a store, by its prefix; "" for all others.
        calls: all so far, in the order in which they came.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.plans: dict[str, Plan] = {}
        self.calls: list[Call] = []
        self.closing = threading.Event()
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._http = _HttpServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def calls_of(self, store: str) -> list[Call]:
        """The calls to one store so far."""
        with self._lock:
            return [call for call in self.calls if call.store == store]

    def note(self, method: str, target: str) -> Fault | Hold | None:
        """Called for each request: name it, and ask what to do with it."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        _, _, key = unquote(parts.path).lstrip("/").partition("/")
        store, _, rest = (key or query.get("prefix", "")).partition("/")
        name = (_operation(method, query, key), store, rest.split("/")[0])
        with self._lock:
            self._counts[name] += 1
            call = Call(*name, self._counts[name], key)
            self.calls.append(call)
        return self.plans.get(store, self.plans.get("", nothing))(call)


def _operation(method: str, query: dict[str, str], key: str) -> str:
    if method == "PUT":
        return "UploadPart" if "partNumber" in query else "PutObject"
    if method == "POST":
        return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
    if method == "DELETE":
        return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
    if method == "HEAD":
        return "HeadObject"
    return "GetObject" if key else "ListObjectsV2"


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away and the server resets: that is what a fault is."""


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[FaultProxy]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self._upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream_port, timeout=LONGEST_WAIT_S)

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_call(self) -> None:
        """Do to one request what the plan says."""
        fault = self.proxy.note(self.command, self.path)
        length = int(self.headers.get("Content-Length", 0))
        if fault == "reset":
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self.rfile.read(length)
        if len(body) != length:
            self.close_connection = True
            return
        if isinstance(fault, Hold):
            self._hold(fault, body)
            return
        if fault in _ANSWERS:
            status, code = _ANSWERS[fault]
            self._send(_encode(status, {}, f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>no</Message></Error>'.encode()))
        elif fault == "half-close":
            self._half_close()
        elif fault == "silent":
            self._wait_for_client_to_go()
        elif fault == "cut-request":
            self._forward(body[: length // 2], cut=True)
            self._reset()
        else:
            if fault == "latency":
                time.sleep(LATENCY_S)
            answer = self._forward(body)
            self._answer(fault, answer)

    do_PUT = do_POST = do_GET = do_HEAD = do_DELETE = handle_call

    def _hold(self, hold: Hold, body: bytes) -> None:
        answer = b""
        if hold.after:
            answer = self._forward(body)
        hold.stand()
        if hold.drop:
            self._reset()
            return
        self._send(answer or self._forward(body))

    def _answer(self, fault: Fault | None, answer: bytes) -> None:
        if fault == "silent-after-commit":
            self._wait_for_client_to_go()
        elif fault == "reset-after-commit":
            self._reset()
        elif fault == "half-close-after-commit":
            self._half_close()
        elif fault == "internal-error-after-commit":
            self._send(_encode(500, {}, b"<Error><Code>InternalError</Code><Message>no</Message></Error>"))
        elif fault == "cut-answer":
            self._send(answer[: len(answer) // 2])
            self._half_close()
        elif fault == "drip":
            for at in range(len(answer)):
                self._send(answer[at : at + 1])
        else:
            self._send(answer)

    def _forward(self, body: bytes, *, cut: bool = False) -> bytes:
        """The server's answer, whole; of a request that is cut, nothing."""
        upstream = self._upstream
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body or None)
        if cut:
            upstream.close()
            return b""
        response = upstream.getresponse()
        headers = dict(response.getheaders())
        return _encode(response.status, headers, response.read(), keep_length=self.command == "HEAD")

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def _half_close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR)
        self._wait_for_client_to_go()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # What remains of the connection's files would keep the descriptor open, and the reset from being sent.
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def _wait_for_client_to_go(self) -> None:
        self.close_connection = True
        self.connection.settimeout(0.1)
        while not self.proxy.closing.is_set():
            try:
                if not self.connection.recv(65536):
                    return
            except TimeoutError:
                continue
            except OSError:
                return


def _encode(status: int, headers: dict[str, str], body: bytes, *, keep_length: bool = False) -> bytes:
    drop = {"transfer-encoding", "connection"} | (set() if keep_length else {"content-length"})
    lines = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in drop]
    if not keep_length and status != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"HTTP/1.1 {status} {http.client.responses.get(status, '')}", *lines, "", ""]).encode("latin-1") + body
