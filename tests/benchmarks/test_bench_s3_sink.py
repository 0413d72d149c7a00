"""The S3 sink answers clients as S3 would, and counts what arrived and nothing else.

Enters: requests over TLS. Leaves: what the sink says of them. Never: a measured time in an assertion.
"""

import http.client
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import payloads, processes, s3, works
from benchmarks.contenders import CONTENDERS, running
from benchmarks.load import LoadFailed, PreparedLoad
from benchmarks.s3 import Arrived, Sink
from fastscp.stores.s3 import EngineKind, ObjectAttributes, PreconditionFailed, S3Options, open_engine

pytestmark = pytest.mark.requires_openssl
ATTRIBUTES = ObjectAttributes("application/dicom", {})
PART = bytes(5 << 20)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with s3.running_sink(tmp_path, delay_ms=0) as running:
        yield running


@pytest.fixture
def connection(sink: Sink) -> Iterator[http.client.HTTPSConnection]:
    context = ssl.create_default_context(cafile=str(sink.certificates.authority))
    connection = http.client.HTTPSConnection("127.0.0.1", sink.port, timeout=60, context=context)
    yield connection
    connection.close()


@pytest.mark.parametrize("kind", ["s3transfer", "obstore"])
def test_an_engine_finds_what_it_expects(sink: Sink, kind: EngineKind, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sink.environment.items():
        monkeypatch.setenv(name, value)
    engine = open_engine(kind, S3Options(s3.BUCKET))
    engine.check("", deadline_s=60)
    put = engine.put("1.dcm", [b"part 1", b"part 2"], attributes=ATTRIBUTES, deadline_s=60)
    again = engine.put("1.dcm", [b"part 1", b"part 2"], attributes=ATTRIBUTES, deadline_s=60)
    assert put.crc64nvme_base64 == again.crc64nvme_base64
    engine.put("batch.json", [b"{}"], attributes=ATTRIBUTES, deadline_s=60, if_none_match=True)
    with pytest.raises(PreconditionFailed):
        engine.put("batch.json", [b"{}"], attributes=ATTRIBUTES, deadline_s=60, if_none_match=True)
    engine.delete("batch.json", deadline_s=60)
    engine.put("batch.json", [b"{}"], attributes=ATTRIBUTES, deadline_s=60, if_none_match=True)
    upload = engine.begin("2.dcm", attributes=ATTRIBUTES, deadline_s=60)
    upload.add_part([PART])
    upload.add_part([b"end"])
    upload.complete()
    abandoned = engine.begin("3.dcm", attributes=ATTRIBUTES, deadline_s=60)
    abandoned.add_part([PART])
    abandoned.abort()
    engine.close()
    arrived = sink.arrived()
    assert (arrived.instances, arrived.instance_bytes) == (2, 12 + len(PART) + 3)
    assert (arrived.puts, arrived.parts) == (5, 3)
    assert arrived.put_p50_us > 0
    assert sink.arrived().put_p50_us == 0


def test_a_client_that_waits_before_it_sends_chunks(sink: Sink, connection: http.client.HTTPSConnection) -> None:
    connection.request(
        "PUT", "/bucket/1.dcm?x-id=PutObject", iter([b"first", b"second"]), {"Expect": "100-continue"}, encode_chunked=True
    )  # fmt: skip
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.request("PUT", "/bucket/1.dcm", b"again", {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-amz-checksum-crc64nvme"], answer.read()) == (200, "AAAAAAAAAAA=", b"")
    arrived = sink.arrived()
    assert (arrived.connections, arrived.puts, arrived.instances, arrived.instance_bytes) == (1, 2, 1, 11)


def test_what_it_does_not_know_is_an_error(sink: Sink, connection: http.client.HTTPSConnection) -> None:
    connection.request("GET", "/bucket?list-type=2")
    assert connection.getresponse().status == 501
    assert sink.arrived().others == 1


def test_the_crt_manager_is_what_is_measured_as_such(tmp_path: Path) -> None:
    load = PreparedLoad(payloads.small(), tmp_path)
    with running(CONTENDERS["fastscp-crt"], tmp_path / "place") as receiver:
        assert receiver.sink is not None
        with load.open(receiver.place.port, associations=1, instances_each=3) as run:
            run.run()
        works.wait_arrived(receiver.sink, 3)
        workers = set(processes.tree(receiver.pid)) - {receiver.pid}
        opened = {int(pid) for pid in re.findall(r"CRT engine in process (\d+)", (tmp_path / "place" / "log").read_text())}
    assert workers
    assert opened >= workers


@pytest.mark.parametrize("instances", [2, 4])
def test_objects_that_are_missing_or_too_many_fail_the_run(instances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = Arrived(1, 0, 0, 0, instances, 0, 0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(works, "ARRIVAL_PATIENCE_S", 0.0)
    monkeypatch.setattr(Sink, "arrived", lambda self: arrived)
    sink = Sink.__new__(Sink)
    assert works.wait_arrived(sink, instances) is arrived
    with pytest.raises(LoadFailed, match=f"{instances} of 3 instances"):
        works.wait_arrived(sink, 3)
