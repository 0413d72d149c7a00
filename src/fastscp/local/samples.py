"""The sample images that come with pydicom, sent by a real SCU.

Enters: a receiver's port. Leaves: what was sent, and whether it was acknowledged. Never: an image of a patient.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydicom import dcmread
from pydicom.data import get_testdata_file

SEND_TIMEOUT_S = 120
SAMPLES = (
    "CT_small.dcm",
    "SC_rgb_jpeg_dcmd.dcm",
    "ExplVR_BigEnd.dcm",
    "image_dfl.dcm",
    "examples_ybr_color.dcm",
    "JPGExtended.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "examples_jpeg2k.dcm",
    "693_J2KI.dcm",
    "SC_rgb_rle.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
)
# What storescu has to be told so that it proposes the file's own syntax.
_DCMTK_OPTIONS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.1.99": "-xd",
}


class Sent(NamedTuple):
    """One image.

    Attributes:
        sender: the program that sent it.
    """

    sop_class: str
    transfer_syntax: str
    study_instance_uid: str
    size_bytes: int
    sender: str
    acknowledged: bool


def send_samples(host: str, port: int, aet: str) -> Iterator[Sent]:
    """Send one after the other. Some of them come with pydicom-data only, and are left out without it."""
    for found in (get_testdata_file(sample, download=False) for sample in SAMPLES):
        if found is None:
            continue
        path = Path(str(found))
        dataset = dcmread(path, stop_before_pixels=True)
        syntax = dataset.file_meta.TransferSyntaxUID
        sender, acknowledged = _send(path, str(syntax), host, port, aet)
        yield Sent(dataset.SOPClassUID.name, syntax.name, str(dataset.StudyInstanceUID), path.stat().st_size, sender, acknowledged)


def _send(path: Path, syntax: str, host: str, port: int, aet: str) -> tuple[str, bool]:
    """With DCMTK's storescu where it is there and can, with pynetdicom's otherwise. (program, acknowledged)."""
    dcmdump = shutil.which("dcmdump")
    if dcmdump and syntax in _DCMTK_OPTIONS:
        # Beside dcmdump, because pynetdicom installs a storescu too.
        storescu = str(Path(dcmdump).with_name("storescu"))
        name, command = "DCMTK", [storescu, "-v", "-R", _DCMTK_OPTIONS[syntax], "-aec", aet, host, str(port), str(path)]
    else:
        name = "pynetdicom"
        command = [sys.executable, "-m", "pynetdicom", "storescu", "-v", "-cx", "-aec", aet, host, str(port), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SEND_TIMEOUT_S, check=False)  # noqa: S603
    # pynetdicom's exit code does not tell what became of a file: its log does.
    output = done.stdout + done.stderr
    return name, done.returncode == 0 and ("(Success)" in output or "0x0000" in output)
