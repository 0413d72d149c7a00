"""The receiver with its store in S3: what was acknowledged is there, verified, and in exactly one manifest."""

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote

import pytest

from fastscp.batches import Keys
from fastscp.batches.manifest import Manifest, decode_manifest
from fastscp.stores.s3 import EngineKind
from tests.faults.large import large_instance
from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, wait_until
from tests.stores_s3.conftest import Certificates, Place
from tests.stores_s3.s3_server import S3Server

KEYS = Keys("site-a")
Start = Callable[..., FastScp]


@pytest.fixture
def start(kind: EngineKind, certificates: Certificates) -> Iterator[Start]:
    """Starts the receiver with the engine under test, at a URL."""
    with ExitStack() as stack:

        def start(url: str, *options: str, store: str = "s3://bucket/site-a", wait_ready: bool = True) -> FastScp:
            environment = {"AWS_ENDPOINT_URL_S3": url, "AWS_CA_BUNDLE": str(certificates.authority)}
            given = ("--s3-engine", kind, "--put-timeout", "6", "--drain-timeout", "20", *options)
            return stack.enter_context(FastScp(store, *given, environment=environment, wait_ready=wait_ready))

        yield start


def send(port: int, *instances: Made) -> list[int]:
    with RawScu(port) as scu:
        scu.associate()
        statuses = [scu.store(made.sop_class, made.sop_instance, made.data_set).status for made in instances]
        scu.release()
    return statuses


def manifests(server: S3Server) -> list[Manifest]:
    found = [(key, stored.body) for key, stored in server.objects.items() if key.startswith(KEYS.batches)]
    return [decode_manifest(KEYS, key, body) for key, body in found]


def assert_each_in_one_manifest(server: S3Server, acknowledged: list[Made]) -> list[Manifest]:
    written = manifests(server)
    listed = Counter(entry.sop_instance_uid for manifest in written for entry in manifest.instances)
    assert listed == Counter(made.sop_instance for made in acknowledged)
    for manifest in written:
        assert KEYS.marker(manifest.batch_id) in server.objects, "the marker stays until the import has begun"
        for entry in manifest.instances:
            stored = server.objects[entry.key]
            assert (entry.size, entry.crc64nvme) == (len(stored.body), stored.checksum)
    for made in acknowledged:
        (key,) = [key for key in server.objects if key.endswith(made.relative_path)]
        assert server.objects[key].body.endswith(made.data_set)
    return written


def test_what_is_acknowledged_is_in_one_manifest(start: Start, server: S3Server, tmp_path: Path) -> None:
    study = make().study
    sent = [make(study=study) for _ in range(5)] + [make() for _ in range(3)]
    receiver = start(server.url)
    assert send(receiver.port, *sent) == [0] * len(sent), receiver.log_text()
    assert len([key for key in server.objects if key.startswith(KEYS.open)]) == 4, "a marker stands before the first Success"
    assert receiver.stop() == 0
    written = assert_each_in_one_manifest(server, sent)
    assert {(manifest.close_reason, manifest.study_date) for manifest in written} == {("drain", "20260102")}
    assert sorted(manifest.instance_count for manifest in written) == [1, 1, 1, 5]
    (key,) = [key for key in server.objects if key.endswith(sent[0].relative_path)]
    (tmp_path / "stored.dcm").write_bytes(server.objects[key].body)
    assert read_part10(tmp_path / "stored.dcm").data_set == sent[0].data_set
    headers = server.objects[key].headers
    assert headers["content-type"] == "application/dicom"
    assert unquote(headers["x-amz-meta-calling-ae-title"]) == "RAWSCU"
    assert not server.uploads


def test_an_instance_beyond_the_threshold_goes_up_in_parts(start: Start, server: S3Server) -> None:
    large, small = large_instance(60 << 20), make()
    receiver = start(server.url, "--spill-threshold", "16MiB")
    before_bytes = receiver.resident_peak_bytes()
    assert send(receiver.port, large, small) == [0, 0]
    assert receiver.resident_peak_bytes() - before_bytes < 48 << 20
    assert server.count("UploadPart") >= 4
    assert receiver.stop() == 0
    written = assert_each_in_one_manifest(server, [large, small])
    assert sorted(manifest.close_reason for manifest in written) == ["drain", "spilled"]
    assert not server.uploads


def test_an_association_that_dies_leaves_neither_object_nor_parts(start: Start, server: S3Server) -> None:
    large, next_one = large_instance(60 << 20), make()
    receiver = start(server.url)
    with RawScu(receiver.port) as scu:
        scu.associate()
        command = enc.store_command(large.sop_class, large.sop_instance)
        scu.send(b"".join(enc.message_pdus(1, command, large.data_set, data_pdv_bytes=16376))[: 40 << 20])
        wait_until(lambda: server.count("UploadPart") >= 2, "parts arrive")
        scu.reset()
    wait_until(lambda: not server.uploads and server.count("AbortMultipartUpload") > 0, "the parts are gone")
    assert send(receiver.port, next_one) == [0]
    assert receiver.stop() == 0
    assert_each_in_one_manifest(server, [next_one])


@pytest.mark.parametrize("fault", ["slow-down", "reset", "reset-after-commit"])
def test_a_passing_fault_costs_time(start: Start, server: S3Server, fault: str) -> None:
    sent = [make() for _ in range(3)]
    receiver = start(server.url)
    server.faults["PutObject"].extend([fault] * 4)
    assert send(receiver.port, *sent) == [0, 0, 0]
    assert receiver.stop() == 0
    assert_each_in_one_manifest(server, sent)


def test_a_lasting_fault_is_answered_and_passes(start: Start, server: S3Server) -> None:
    refused, stored = make(), make()
    receiver = start(server.url)
    with RawScu(receiver.port) as scu:
        scu.associate()
        server.faults["PutObject"].extend(["denied"] * 100)
        answer = scu.store(refused.sop_class, refused.sop_instance, refused.data_set)
        assert (answer.status, bool(answer.comment)) == (0xA700, True)
        server.faults["PutObject"].clear()
        assert scu.store(stored.sop_class, stored.sop_instance, stored.data_set).status == 0
        scu.release()
    assert receiver.metric("fastscp_memory_in_use_bytes") == 0
    assert receiver.stop() == 0
    assert_each_in_one_manifest(server, [stored])


@pytest.mark.parametrize("refusal", ["denied", "no-bucket", "owner"])
def test_what_only_a_person_can_change_is_told_to_whoever_asks(start: Start, server: S3Server, refusal: str) -> None:
    receiver = start(server.url, "--bucket-owner", server.owner)
    refused, stored = make(), make()
    with RawScu(receiver.port) as scu:
        scu.associate()
        if refusal == "owner":
            server.owner = "999988887777"
        else:
            server.faults["PutObject"].extend([refusal] * 100)
        code = "NoSuchBucket" if refusal == "no-bucket" else "AccessDenied"
        answer = scu.store(refused.sop_class, refused.sop_instance, refused.data_set)
        assert (answer.status, answer.comment) == (0xA700, f"S3 refuses the instance: {code}")
        status, body = receiver.get("/readyz")
        assert (status, json.loads(body)["reasons"]) == (503, {"store": f"S3 refuses access: {code}"})
        assert receiver.get("/livez")[0] == 200, "what it has it goes on serving"
        server.faults["PutObject"].clear()
        server.owner = "111122223333"
        assert scu.store(stored.sop_class, stored.sop_instance, stored.data_set).status == 0
        assert receiver.get("/readyz")[0] == 200
        scu.release()
    assert receiver.stop() == 0
    assert_each_in_one_manifest(server, [stored])


def test_while_s3_cannot_be_reached_it_is_said_and_then_taken_back(start: Start, server: S3Server) -> None:
    """By whoever noticed first: an instance, or the probe. Nobody has to send for it to be taken back."""
    receiver = start(server.url, "--workers", "1", "--put-timeout", "2", "--drain-timeout", "10")
    server.faults["PutObject"].extend(["reset"] * 1000)
    server.faults["CreateMultipartUpload"].extend(["reset"] * 1000)
    assert send(receiver.port, make()) == [0xA700]
    status, body = receiver.get("/readyz")
    (reason,) = json.loads(body)["reasons"].items()
    assert (status, reason[0]) == (503, "store")
    assert reason[1].startswith(("S3 does not take instances: ", "S3 cannot be reached: "))
    assert receiver.get("/livez")[0] == 200
    server.faults.clear()
    wait_until(lambda: receiver.get("/readyz")[0] == 200, "the probe has found it")
    assert receiver.stop() == 0


def test_a_corrupted_object_is_not_acknowledged(start: Start, server: S3Server) -> None:
    receiver, made = start(server.url), make(pixel_bytes=300_000)
    server.faults["PutObject"].extend(["corrupt"] * 100)
    assert send(receiver.port, made) == [0xA700]
    assert not [key for key in server.objects if key.endswith(".dcm")]


def test_killed_with_acknowledged_instances_the_marker_stays(start: Start, server: S3Server) -> None:
    sent = [make() for _ in range(3)]
    receiver = start(server.url)
    assert send(receiver.port, *sent) == [0, 0, 0]
    receiver.send_signal(signal.SIGKILL)
    receiver.wait_exit()
    assert not manifests(server)
    for made in sent:
        (key,) = [key for key in server.objects if key.endswith(made.relative_path)]
        batch_id = key.removeprefix("site-a/instances/").split("/")[0]
        assert KEYS.marker(batch_id) in server.objects


@pytest.mark.parametrize("problem", ["bucket", "denied", "owner"])
def test_what_only_a_person_can_change_ends_the_start(start: Start, server: S3Server, problem: str) -> None:
    if problem == "denied":
        server.faults["CreateMultipartUpload"].extend(["denied"] * 10)
    owner = "999988887777" if problem == "owner" else server.owner
    store = "s3://other/site-a" if problem == "bucket" else "s3://bucket/site-a"
    receiver = start(server.url, "--bucket-owner", owner, store=store, wait_ready=False)
    assert receiver.wait_exit() == 2
    assert len(receiver.log_lines) == 1
    assert "--store" in receiver.log_lines[0]


def test_rclone(start: Start, rclone: Place) -> None:
    """Another's server, which verifies signatures."""
    sent = [make(pixel_bytes=200_000) for _ in range(4)] + [large_instance(40 << 20)]
    receiver = start(rclone.url, store="s3://bucket/site-a")
    assert send(receiver.port, *sent) == [0] * len(sent)
    assert receiver.stop() == 0


def test_the_bucket_must_be_named(tmp_path: Path) -> None:
    with FastScp("s3:bucket", wait_ready=False) as receiver:
        assert receiver.wait_exit() == 2
        assert "--store" in receiver.log_text()
