"""A file from anywhere becomes a batch of its own, or is refused."""

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from fastscp.batches.manifest import decode_manifest
from importflow.errors import PermanentError, RetryableError
from tests.lambdas.world import KEYS, World, message, s3_event
from trigger_import.handler import dispatch
from trigger_import.part10 import Instance, TooShortError, read_instance

KEY = "hospital/inbox/a folder/a+b.dcm"
REAL = ["CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "JPEG2000.dcm", "rtplan.dcm", "ExplVR_BigEnd.dcm"]
UNCOMPRESSED = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def part10(syntax: str = ExplicitVRLittleEndian, drop: str = "", comment_bytes: int = 0, **values: str) -> bytes:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    data.StudyDate, data.PatientName = "20260101", "DOE^JOHN"
    if comment_bytes:
        data.AdditionalPatientHistory = "x" * comment_bytes
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    data.InstanceNumber = "1"
    for name, value in values.items():
        setattr(data, name, value)
    if drop:
        delattr(data, drop)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    data.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def deliver(world: World, key: str = KEY) -> list[str]:
    answer = dispatch(world.workflow, {"Records": [message("0", s3_event(key))]})
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


class TestHead:
    @pytest.mark.parametrize("syntax", UNCOMPRESSED)
    def test_each_encoding_is_read(self, syntax: str) -> None:
        data = part10(syntax)
        assert read_instance(data, whole=True) == Instance("1.2.3", "1.2.3.1", "1.2.3.4", "20260101")

    @pytest.mark.parametrize("syntax", UNCOMPRESSED)
    def test_every_beginning_is_too_short_or_says_the_same(self, syntax: str) -> None:
        data = part10(syntax)
        whole = read_instance(data, whole=True)
        lengths = []
        for length in range(len(data)):
            try:
                assert read_instance(data[:length], whole=False) == whole
                lengths.append(length)
            except TooShortError:
                assert not lengths, "a longer beginning says less"

    @pytest.mark.parametrize("syntax", UNCOMPRESSED)
    def test_a_file_that_breaks_off_is_refused_or_says_the_same(self, syntax: str) -> None:
        data = part10(syntax)
        whole = read_instance(data, whole=True)
        for length in range(0, len(data), 3):
            try:
                read = read_instance(data[:length], whole=True)
            except ValueError:
                continue
            # Broken off behind what is wanted, or inside the last of it.
            assert whole[0].startswith(read.study_instance_uid)

    @pytest.mark.parametrize("name", REAL)
    def test_real_files(self, name: str) -> None:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        expected = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        head = Path(path).read_bytes()
        if head[128:132] != b"DICM":
            with pytest.raises(ValueError):
                read_instance(head, whole=True)
            return
        read = read_instance(head, whole=True)
        assert read[:3] == (expected.StudyInstanceUID, expected.SeriesInstanceUID, expected.SOPInstanceUID)

    @pytest.mark.parametrize("drop", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
    def test_without_a_uid_it_is_refused(self, drop: str) -> None:
        with pytest.raises(ValueError, match="no "):
            read_instance(part10(drop=drop), whole=True)

    @pytest.mark.parametrize("uid", ["../../x", "1.2.", ".1", "1/2", "a", "1 2"])
    def test_a_uid_that_makes_no_key_is_refused(self, uid: str) -> None:
        data = part10().replace(b"1.2.3\0", uid.encode()[:6].ljust(6, b"\0"))
        with pytest.raises(ValueError, match="unusable"):
            read_instance(data, whole=True)

    @pytest.mark.parametrize("date", ["", "2026.01.01", "unknown", "2026010"])
    def test_an_odd_study_date_is_none(self, date: str) -> None:
        assert read_instance(part10(StudyDate=date), whole=True).study_date is None

    @pytest.mark.parametrize("data", [b"", b"DICM", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 200, b"x" * 4096])
    def test_what_is_no_dicom_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            read_instance(data, whole=True)

    def test_a_bomb_is_not_inflated_further_than_it_must(self) -> None:
        plain = part10(DeflatedExplicitVRLittleEndian)
        meta_end = 144 + int.from_bytes(plain[140:144], "little")
        inflated = zlib.decompress(plain[meta_end:], -15)
        packer = zlib.compressobj(9, wbits=-15)
        # A long element before the UIDs of group 0020: (0010,21B0) of 64 MiB.
        at = inflated.index(b"\x20\x00\x0d\x00")
        bomb = inflated[:at] + b"\x10\x00\xb0\x21UN\0\0" + (64 << 20).to_bytes(4, "little")
        packed = packer.compress(bomb) + packer.compress(b"\0" * (64 << 20)) + packer.compress(inflated[at:]) + packer.flush()
        with pytest.raises(ValueError, match="breaks off"):
            read_instance(plain[:meta_end] + packed, whole=True)


class TestAdoption:
    def test_a_file_becomes_a_batch_and_is_imported(self, world: World) -> None:
        data = part10()
        world.put(KEY, data)
        assert deliver(world) == []
        [name] = world.states.waiting()
        batch = name.removesuffix("-1")
        key = KEYS.instance(batch, "1.2.3", "1.2.3.1", "1.2.3.4")
        assert world.keys(KEYS.instances(batch)) == [key]
        assert world.s3.get_object(Bucket="dicom", Key=key)["Body"].read() == data
        manifest = decode_manifest(KEYS, KEYS.manifest(batch), world.s3.get_object(Bucket="dicom", Key=KEYS.manifest(batch))["Body"].read())
        assert (manifest.owner, manifest.instance_count, manifest.study_date, manifest.total_bytes) == ("inbox", 1, "20260101", len(data))
        world.run_executions()
        row = world.row(batch)
        assert (row["state"], row["source"], row["importedCount"], row["sopInstanceUID"]) == ("DONE", "inbox", 1, "1.2.3.4")

    def test_twice_and_with_the_event_of_its_own_manifest_it_is_one_batch(self, world: World) -> None:
        world.put(KEY, part10())
        assert deliver(world) == deliver(world) == []
        [name] = world.states.waiting()
        assert world.trigger(KEYS.manifest(name.removesuffix("-1"))) == []
        assert world.states.waiting() == [name]

    def test_another_version_is_another_batch(self, world: World) -> None:
        world.s3.put_bucket_versioning(Bucket="dicom", VersioningConfiguration={"Status": "Enabled"})
        bodies = [part10(StudyDate=date) for date in ("20260101", "20260102")]
        versions = [world.s3.put_object(Bucket="dicom", Key=KEY, Body=body)["VersionId"] for body in bodies]
        # The events come in disorder, and one of them twice.
        for version in (versions[1], versions[0], versions[1]):
            assert dispatch(world.workflow, s3_event(KEY, version=version)) is None
        batches = [name.removesuffix("-1") for name in world.states.waiting()]
        assert [world.row(batch)["studyDate"] for batch in batches] == ["20260102", "20260101"]
        copies = [world.keys(KEYS.instances(batch))[0] for batch in batches]
        assert [world.s3.get_object(Bucket="dicom", Key=copy)["Body"].read() for copy in copies] == [bodies[1], bodies[0]]

    def test_one_that_is_replaced_while_it_is_read_is_read_again(self, world: World) -> None:
        world.put(KEY, part10())
        asked: list[dict[str, Any]] = []

        def look(params: dict[str, Any], **_: Any) -> None:
            asked.append(params)

        world.s3.meta.events.register("provide-client-params.s3.CopyObject", look)
        # moto copies whatever is there: the refusal that S3 gives to another ETag is injected.
        world.faults.begin(2, "replaced")
        with pytest.raises(RetryableError):
            dispatch(world.workflow, s3_event(KEY))
        assert world.faults.end() == ["GetObject", "CopyObject"]
        assert dispatch(world.workflow, s3_event(KEY)) is None
        world.s3.meta.events.unregister("provide-client-params.s3.CopyObject", look)
        etag = world.s3.head_object(Bucket="dicom", Key=KEY)["ETag"]
        assert [params["CopySourceIfMatch"] for params in asked] == [etag, etag]

    def test_a_head_that_is_long_is_read_further(self, world: World) -> None:
        world.put(KEY, part10(comment_bytes=300_000))
        assert deliver(world) == []
        assert len(world.states.waiting()) == 1

    @pytest.mark.parametrize(
        "data", [b"", b"not DICOM", part10(drop="StudyInstanceUID"), part10()[:200]], ids=["empty", "text", "no study", "broken"]
    )
    def test_what_cannot_be_imported_is_refused(self, world: World, data: bytes) -> None:
        world.put(KEY, data)
        assert deliver(world) == ["0"]
        assert (world.states.executions, world.keys("hospital/instances/"), world.keys(KEYS.batches)) == ({}, [], [])

    def test_what_health_imaging_would_not_read_is_refused(self, world: World) -> None:
        world.s3.put_object(Bucket="dicom", Key=KEY, Body=part10(), ContentEncoding="gzip")
        with pytest.raises(PermanentError, match="gzip"):
            dispatch(world.workflow, s3_event(KEY))

    def test_one_that_is_gone_is_told(self, world: World) -> None:
        assert deliver(world) == ["0"]

    def test_logs_and_rows_have_nothing_of_the_patient(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.put(KEY, part10(PatientName="DOE^JOHN"))
        deliver(world)
        world.put("hospital/inbox/bad.dcm", part10(drop="StudyInstanceUID"))
        deliver(world, "hospital/inbox/bad.dcm")
        world.run_executions()
        written = str([vars(record) for record in caplog.records]) + str(world.dynamodb.scan(TableName="batches")["Items"])
        assert "refused" in written
        assert "DOE" not in written
