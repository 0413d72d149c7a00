"""An S3 that believes nothing: it verifies CRC-64/NVME, preconditions, signed headers, owner and parts, and fails when told to.

Enters: requests of an S3 client over HTTP or HTTPS on loopback. Leaves: objects in memory.
Never: an object whose checksum was not sent and verified.
"""

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from fastscp.stores.s3.crc import crc64nvme_of, to_base64

STALL_S = 30.0
CRC_HEADER = "x-amz-checksum-crc64nvme"


@dataclass
class Stored:
    body: bytes
    headers: dict[str, str]
    checksum: str
    modified_s: float = field(default_factory=time.time)

    @property
    def etag(self) -> str:
        return f'"{md5(self.body).hexdigest()}"'


@dataclass
class PendingUpload:
    key: str
    headers: dict[str, str]
    parts: dict[int, Stored] = field(default_factory=dict)
    checksum: int = 0
    """Of all parts so far, where they come in order and none comes twice."""
    size_bytes: int = 0


class S3Fault(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class S3Server:
    """One bucket.

    `faults["PutObject"].append("slow-down")` makes the next such request fail so. Faults: slow-down, denied, no-bucket, expired (answers);
    cut (half an answer), reset (after the head and some of the body),
    stall (no answer, no effect), reset-after-commit, silent-after-commit,
    error-in-200, corrupt (a byte is flipped after it was received).
    """

    bucket = "bucket"
    owner = "111122223333"
    page_size = 3

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, PendingUpload] = {}
        self.faults: dict[str, deque[str]] = defaultdict(deque)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.access_keys: set[str] | None = None
        self.stale_key_answer = (400, "ExpiredToken")
        """What is said of an access key that is none of `access_keys`."""
        self.clock_skew_s = 0.0
        self.keep_parts = True
        """False drops the bytes of a part once they are verified, for objects that are too large to keep."""
        self.lock = threading.Lock()
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"s3": self})
        self._http = _HttpServer(("127.0.0.1", 0), handler)
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._http.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    def __enter__(self) -> "S3Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def count(self, operation: str) -> int:
        """Requests of that kind so far."""
        return sum(name == operation for name, _ in self.requests)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away; that is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    s3: ClassVar[S3Server]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_PUT(self) -> None:
        self._serve("UploadPart" if "partNumber" in self.query else "PutObject")

    def do_POST(self) -> None:
        self._serve("CreateMultipartUpload" if "uploads" in self.query else "CompleteMultipartUpload")

    def do_GET(self) -> None:
        self._serve("GetObject" if self.key else "ListObjectsV2")

    def do_HEAD(self) -> None:
        self._serve("HeadObject")

    def do_DELETE(self) -> None:
        self._serve("AbortMultipartUpload" if "uploadId" in self.query else "DeleteObject")

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query, keep_blank_values=True).items()}

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).split("/", 2)[2] if self.path.count("/") > 1 else ""

    def _serve(self, operation: str) -> None:
        s3 = self.s3
        headers = {name.lower(): value for name, value in self.headers.items()}
        s3.requests.append((operation, headers))
        fault = s3.faults[operation].popleft() if s3.faults[operation] else ""
        length = int(headers.get("content-length", 0))
        if fault == "reset":
            self.rfile.read(length // 2)
            self._reset()
            return
        body = bytearray(self.rfile.read(length))
        if fault == "cut":
            self._answer(200, b"half", {"Content-Length": "8", "Connection": "close"})
            self.close_connection = True
            return
        if len(body) != length:
            self.close_connection = True
            return
        try:
            if fault == "stall":
                self._wait_for_client_to_go()
                return
            if fault == "corrupt":
                body[len(body) // 2] ^= 0x10
            answers = {
                "slow-down": (503, "SlowDown"),
                "denied": (403, "AccessDenied"),
                "no-bucket": (404, "NoSuchBucket"),
                "expired": (400, "ExpiredToken"),
            }
            if fault in answers:
                raise S3Fault(*answers[fault])
            self._check_head(headers)
            if fault == "error-in-200":
                self._answer(200, b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>late</Message></Error>')
                return
            with s3.lock:
                status, answer_headers, answer = getattr(self, f"_{operation}")(headers, bytes(body))
        except S3Fault as error:
            answer = b"" if self.command == "HEAD" else f"<Error><Code>{error.code}</Code><Message>no</Message></Error>".encode()
            self._answer(error.status, answer)
            return
        if fault == "reset-after-commit":
            self._reset()
        elif fault == "silent-after-commit":
            self._wait_for_client_to_go()
        else:
            self._answer(status, answer, answer_headers)

    def _check_head(self, headers: dict[str, str]) -> None:
        authorization = re.search(r"Credential=([^/]+)/.*SignedHeaders=([^,]+),", headers.get("authorization", ""))
        if authorization is None:
            raise S3Fault(403, "AccessDenied")
        if self.s3.access_keys is not None and authorization[1] not in self.s3.access_keys:
            raise S3Fault(*self.s3.stale_key_answer)
        if {name for name in headers if name.startswith("x-amz-")} - set(authorization[2].split(";")):
            raise S3Fault(403, "HeadersNotSigned")
        if unquote(urlsplit(self.path).path).split("/")[1] != self.s3.bucket:
            raise S3Fault(404, "NoSuchBucket")
        if headers.get("x-amz-expected-bucket-owner", self.s3.owner) != self.s3.owner:
            raise S3Fault(403, "AccessDenied")
        if "aws-chunked" in headers.get("content-encoding", ""):
            raise S3Fault(501, "NotImplemented")

    def _verified(self, headers: dict[str, str], body: bytes) -> Stored:
        if CRC_HEADER not in headers:
            raise S3Fault(400, "MissingChecksum")
        if headers[CRC_HEADER] != to_base64(crc64nvme_of([body])):
            raise S3Fault(400, "BadDigest")
        return Stored(body, headers, headers[CRC_HEADER])

    def _PutObject(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        stored = self._verified(headers, body)
        if headers.get("if-none-match") == "*" and self.key in self.s3.objects:
            raise S3Fault(412, "PreconditionFailed")
        stored.modified_s += self.s3.clock_skew_s
        self.s3.objects[self.key] = stored
        return 200, {"ETag": stored.etag, CRC_HEADER: stored.checksum, "x-amz-checksum-type": "FULL_OBJECT"}, b""

    def _CreateMultipartUpload(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if (headers.get("x-amz-checksum-algorithm"), headers.get("x-amz-checksum-type")) != ("CRC64NVME", "FULL_OBJECT"):
            raise S3Fault(400, "MissingChecksum")
        upload_id = f"upload-{time.monotonic_ns()}"
        self.s3.uploads[upload_id] = PendingUpload(self.key, headers)
        return 200, {}, f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>".encode()

    def _pending(self) -> PendingUpload:
        upload = self.s3.uploads.get(self.query["uploadId"])
        if upload is None or upload.key != self.key:
            raise S3Fault(404, "NoSuchUpload")
        return upload

    def _UploadPart(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = self._pending()
        stored = upload.parts[int(self.query["partNumber"])] = self._verified(headers, body)
        if not self.s3.keep_parts:
            upload.checksum = crc64nvme_of([body], upload.checksum)
            upload.size_bytes += len(body)
            stored.body = b""
        return 200, {"ETag": stored.etag, CRC_HEADER: stored.checksum}, b""

    def _CompleteMultipartUpload(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = self._pending()
        named = [
            (int(part.findtext("{*}PartNumber") or 0), part.findtext("{*}ETag"), part.findtext("{*}ChecksumCRC64NVME"))
            for part in ElementTree.fromstring(body).iterfind("{*}Part")
        ]
        if named != [(number, part.etag, part.checksum) for number, part in sorted(upload.parts.items())]:
            raise S3Fault(400, "InvalidPart")
        if self.s3.keep_parts:
            stored = self._verified(headers, b"".join(part.body for _, part in sorted(upload.parts.items())))
            size_bytes = len(stored.body)
        else:
            stored, size_bytes = Stored(b"", {}, to_base64(upload.checksum)), upload.size_bytes
            if headers[CRC_HEADER] != stored.checksum:
                raise S3Fault(400, "BadDigest")
        if int(headers["x-amz-mp-object-size"]) != size_bytes:
            raise S3Fault(400, "InvalidRequest")
        stored.headers = upload.headers
        self.s3.objects[self.key] = stored
        del self.s3.uploads[self.query["uploadId"]]
        inner = f"<ETag>{escape(stored.etag)}</ETag><ChecksumCRC64NVME>{stored.checksum}</ChecksumCRC64NVME>"
        return 200, {}, f"<CompleteMultipartUploadResult>{inner}</CompleteMultipartUploadResult>".encode()

    def _AbortMultipartUpload(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self._pending()
        del self.s3.uploads[self.query["uploadId"]]
        return 204, {}, b""

    def _stored(self) -> Stored:
        if self.key not in self.s3.objects:
            raise S3Fault(404, "NoSuchKey")
        return self.s3.objects[self.key]

    def _GetObject(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 200, {"ETag": self._stored().etag}, self._stored().body

    def _HeadObject(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        stored = self._stored()
        return 200, {"ETag": stored.etag, CRC_HEADER: stored.checksum, "Content-Length": str(len(stored.body))}, b""

    def _DeleteObject(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.s3.objects.pop(self.key, None)
        return 204, {}, b""

    def _ListObjectsV2(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        after = self.query.get("continuation-token", "")
        keys = sorted(key for key in self.s3.objects if key.startswith(self.query.get("prefix", "")) and key > after)
        page = keys[: self.s3.page_size]
        more = len(keys) > len(page)
        inner = f"<IsTruncated>{str(more).lower()}</IsTruncated>" + (
            f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        )
        for key in page:
            stored = self.s3.objects[key]
            modified = datetime.fromtimestamp(int(stored.modified_s), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            inner += f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified><Size>{len(stored.body)}</Size>"
            inner += f"<ETag>{escape(stored.etag)}</ETag></Contents>"
        return 200, {}, f"<ListBucketResult>{inner}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RD)
        self.connection.close()

    def _wait_for_client_to_go(self) -> None:
        self.close_connection = True
        self.s3.closing.wait(STALL_S)
