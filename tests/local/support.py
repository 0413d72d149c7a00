"""Files, studies and questions that the tests of the embedded AWS share."""

import io
import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.peers.datasets import new_uid
from tests.peers.encoding import CT_IMAGE

INPUT_BUCKET, OUTPUT_BUCKET = "test-input", "test-output"
ROLE = "arn:aws:iam::123456789012:role/import"


def dicom_file(syntax: str = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """A small PS3.10 file: made-up UIDs unless given; an element that is None is left out."""
    values: dict[str, Any] = {
        "SOPClassUID": CT_IMAGE,
        "SOPInstanceUID": new_uid(),
        "StudyInstanceUID": new_uid(),
        "SeriesInstanceUID": new_uid(),
        "StudyDate": "20260102",
        "Modality": "CT",
        "PatientID": "TEST-1",
        "PatientName": "Test^One",
        "SeriesNumber": "1",
        **elements,
    }
    dataset = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.add_new(0x7FE00010, "OW", bytes(64))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax  # type: ignore[assignment]
    dataset.file_meta.MediaStorageSOPClassUID = CT_IMAGE  # type: ignore[assignment]
    dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"] or new_uid()
    buffer = io.BytesIO()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def reset(url: str) -> None:
    """Empty what moto keeps in its modules."""
    with urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", b"", method="POST"), timeout=30):
        pass


def output_of(s3: Any, job: Mapping[str, Any], bucket: str = OUTPUT_BUCKET) -> dict[str, Any]:
    """The files that a job wrote, by name below its folder: JSON, or a list for lines of JSON."""
    folder = f"out/{job['datastoreId']}-DicomImport-{job['jobId']}/"
    found = {}
    for stored in s3.list_objects_v2(Bucket=bucket, Prefix=folder).get("Contents", []):
        text = s3.get_object(Bucket=bucket, Key=stored["Key"])["Body"].read().decode()
        name = stored["Key"].removeprefix(folder)
        found[name] = [json.loads(line) for line in text.splitlines()] if name.endswith(".ndjson") else json.loads(text)
    return found
