"""A stock pynetdicom Storage SCP that puts each instance into S3 with boto3, before or after it says Success.

Enters: associations on PORT. Leaves: an object per instance. Never: anything tuned but limits: the maximum PDU length, the number of
associations, and as many connections to S3 as there may be associations.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import boto3
from botocore.config import Config
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE

MOST_ASSOCIATIONS = 1000
EARLY_THREADS = 32


def put(client: Any, bucket: str, key: str, body: bytes) -> None:
    """One object."""
    client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/dicom")


def commit(event: evt.Event, client: Any, bucket: str) -> int:
    """Answer Success when the object is there."""
    request = cast(C_STORE, event.request)
    put(client, bucket, f"{request.AffectedSOPInstanceUID}.dcm", event.encoded_dataset())
    return 0x0000


def promise(event: evt.Event, client: Any, bucket: str, pool: ThreadPoolExecutor) -> int:
    """Answer Success, and see to the object later."""
    request = cast(C_STORE, event.request)
    pool.submit(put, client, bucket, f"{request.AffectedSOPInstanceUID}.dcm", event.encoded_dataset())
    return 0x0000


def main(port: int, bucket: str, when: str) -> None:
    """Serve until the process is ended."""
    client = boto3.client("s3", config=Config(max_pool_connections=MOST_ASSOCIATIONS))
    entity = AE(ae_title="PYNETDICOM")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.maximum_pdu_size = 131072
    entity.maximum_associations = MOST_ASSOCIATIONS
    handler: Any = (evt.EVT_C_STORE, commit, [client, bucket])
    if when == "early":
        handler = (evt.EVT_C_STORE, promise, [client, bucket, ThreadPoolExecutor(EARLY_THREADS)])
    entity.start_server(("127.0.0.1", port), block=True, evt_handlers=[handler])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
