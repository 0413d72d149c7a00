"""Stage: command sets, beside pynetdicom's way to do the same.

Enters: one C-STORE-RQ command set. Leaves: its fields, or a C-STORE-RSP. Never: a data set.
"""

from io import BytesIO

import pytest
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import payloads
from fastscp._ext.dimse import decode_command, encode_store_response

COMMAND = payloads.small().command
SOP_CLASS_UID = payloads.small().sop_class_uid


@pytest.mark.benchmark(group="command decode")
def test_decode(benchmark: BenchmarkFixture) -> None:
    """fastscp."""
    assert benchmark(decode_command, COMMAND).sop_instance_uid == payloads.INSTANCE_UID


@pytest.mark.benchmark(group="command decode")
def test_decode_by_pynetdicom(benchmark: BenchmarkFixture) -> None:
    """pynetdicom, up to the fields."""
    assert benchmark(lambda: decode(BytesIO(COMMAND), True, True).AffectedSOPInstanceUID) == payloads.INSTANCE_UID


@pytest.mark.benchmark(group="response encode")
def test_encode(benchmark: BenchmarkFixture) -> None:
    """fastscp."""

    def encode() -> bytes:
        return encode_store_response(
            context_id=payloads.CONTEXT_ID,
            message_id=payloads.MESSAGE_ID,
            sop_class_uid=SOP_CLASS_UID,
            sop_instance_uid=payloads.INSTANCE_UID,
            status=0,
        )

    assert benchmark(encode)[0] == 0x04


@pytest.mark.benchmark(group="response encode")
def test_encode_by_pynetdicom(benchmark: BenchmarkFixture) -> None:
    """pynetdicom, from the primitive to PDVs."""
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo = payloads.MESSAGE_ID
    primitive.AffectedSOPClassUID = UID(SOP_CLASS_UID)
    primitive.AffectedSOPInstanceUID = UID(payloads.INSTANCE_UID)
    primitive.Status = 0

    def encode() -> int:
        message = C_STORE_RSP()
        message.primitive_to_message(primitive)
        return len(list(message.encode_msg(payloads.CONTEXT_ID, 131072)))

    assert benchmark(encode) == 1
