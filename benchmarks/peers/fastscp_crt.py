"""fastscp with an engine that only the benchmark has: s3transfer's CRT manager instead of its classic one.

Enters: the arguments of the command fastscp. Leaves: its exit code. Never: a retry, a multipart upload of the manager's own.
"""

import os
import subprocess
import sys
from typing import Any

import botocore.session
from s3transfer.crt import BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client
from s3transfer.manager import TransferConfig

import fastscp.receive.opening
import fastscp.service.worker
from fastscp.cli import main
from fastscp.stores.s3 import EngineKind, ObjectAttributes, PutResult, S3Options
from fastscp.stores.s3.body import SegmentsBody
from fastscp.stores.s3.botocore_engine import LARGEST_PUT_BYTES, BotocoreEngine
from fastscp.stores.s3.client import send_timeout_s
from fastscp.stores.s3.errors import translated_errors

WORKER = "fastscp.service.worker"
_popen = subprocess.Popen


class CrtManager(CRTTransferManager):
    """One that lets through what PutObject takes besides."""

    ALLOWED_UPLOAD_ARGS = [*CRTTransferManager.ALLOWED_UPLOAD_ARGS, "IfNoneMatch", "BucketKeyEnabled"]  # noqa: RUF012


class CrtEngine(BotocoreEngine):
    """Single objects go through the CRT manager."""

    def __init__(self, options: S3Options) -> None:
        super().__init__(options)
        region, ca_bundle = self._connection.region, self._connection.ca_bundle
        credentials = BotocoreCRTCredentialsWrapper(self._connection.credentials).to_crt_credentials_provider()
        client = create_s3_crt_client(region, credentials, verify=ca_bundle)
        where = {"region_name": region, "endpoint_url": self._connection.endpoint_url}
        serializer = BotocoreCRTRequestSerializer(botocore.session.get_session(), where)
        self._crt = CrtManager(client, serializer, config=TransferConfig(multipart_threshold=LARGEST_PUT_BYTES))

    def _put_once(self, key: str, views: list[memoryview], checksum: str, attributes: ObjectAttributes, if_none_match: bool) -> PutResult:
        arguments: dict[str, Any] = self._object_arguments(attributes) | {"ChecksumCRC64NVME": checksum}
        if if_none_match:
            arguments["IfNoneMatch"] = "*"
        body: Any = SegmentsBody(views, send_timeout_s(self._options))
        with translated_errors():
            self._crt.upload(body, self._options.bucket, key, arguments).result()
        # It prunes this list never.
        self._crt._future_coordinators.clear()
        return PutResult("", checksum)


def open_engine(kind: EngineKind, options: S3Options) -> CrtEngine:
    """Whatever kind is asked for."""
    print(f"CRT engine in process {os.getpid()}", file=sys.stderr, flush=True)
    return CrtEngine(options)


def start(arguments: list[str], **rest: Any) -> "subprocess.Popen[bytes]":
    """A process of fastscp; a worker is this program again."""
    if WORKER in arguments:
        arguments = [sys.executable, __file__, *arguments[arguments.index(WORKER) :]]
    return _popen(arguments, **rest)


if __name__ == "__main__":
    fastscp.receive.opening.open_engine = open_engine
    if sys.argv[1] == WORKER:
        sys.exit(fastscp.service.worker.main(sys.argv[2:]))
    subprocess.Popen = start  # type: ignore[assignment,misc]
    sys.exit(main())
