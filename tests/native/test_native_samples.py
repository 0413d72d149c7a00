"""Sample files of pydicom, pydicom-data and pynetdicom: received, read back by pydicom, and their heads found.

Enters: the corpus. Leaves: what pydicom reads in the same bytes. Never: a file left out without a reason.
"""

import warnings
from io import BytesIO
from typing import Any

import pydicom
import pytest

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from reference import reference_part10, traffic
from reference.driving import head_line, native_reader
from reference.reference_dimse import encode_store_request
from tests.interop.corpus import Sample, samples

TAGS = {
    "sop_class_uid": 0x00080016,
    "sop_instance_uid": 0x00080018,
    "study_instance_uid": 0x0020000D,
    "series_instance_uid": 0x0020000E,
    "study_date": 0x00080020,
}
MALFORMED = {
    "pydicom/test_files/SC_rgb_jpeg.dcm": "implicit VRs under a transfer syntax with explicit VRs",
    "pydicom/test_files/no_meta.dcm": "a stray byte stands before the first element",
}
"""Files whose data set is not what their transfer syntax says."""


def received(sample: Sample) -> Any:
    reader = native_reader(BufferPool(1 << 28), established=False)
    reader.establish({1: sample.transfer_syntax}, frozenset({1}), "STORESCU")
    command = encode_store_request(sop_class_uid=sample.sop_class, sop_instance_uid=sample.sop_instance)
    pdvs = traffic.fragments(1, command, [], command=True)
    pdvs += traffic.fragments(1, sample.data_set, [30000] * (len(sample.data_set) // 30000), command=False)
    stream = traffic.packed(pdvs, [])
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    return reader.take_instance()


def raw_text(data_set: pydicom.Dataset, tag: int) -> str | None:
    if tag not in data_set:
        return None
    value = data_set.get_item(tag).value or b""  # pydicom has "" where there are no bytes
    return bytes(value).rstrip(b"\0 ").decode("latin-1")


@pytest.mark.parametrize("name", sorted(samples()))
def test_sample(name: str) -> None:
    sample = samples()[name]
    instance = received(sample)
    file = b"".join(instance.segments())
    assert file[instance.file_meta_bytes :] == sample.data_set
    head = instance.inflated_head(1 << 20) if instance.deflated else instance.head
    if not instance.deflated:
        syntax = reference_part10.syntax_of(sample.transfer_syntax)
        expected = reference_part10.scan_head(sample.data_set, explicit_vr=syntax.explicit_vr, little_endian=syntax.little_endian)
        assert head_line(head) == head_line(expected)
    if name in MALFORMED:
        assert head.state == "malformed"
        return
    assert head.state == "complete"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
        assert read.file_meta.MediaStorageSOPClassUID == sample.sop_class
        assert read.file_meta.MediaStorageSOPInstanceUID == sample.sop_instance
        assert read.file_meta.TransferSyntaxUID == sample.transfer_syntax
        assert {key: getattr(head, key) for key in TAGS} == {key: raw_text(read, tag) for key, tag in TAGS.items()}
