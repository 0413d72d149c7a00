"""Every sample file, sent as it stands: stored byte for byte, or refused with the status that its fault deserves.

Enters: the corpus. Leaves: a verdict per file. Never: a file that is neither stored nor listed.
"""

from __future__ import annotations

import shutil
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from tests.interop.corpus import Sample, samples
from tests.peers.dcmtk import dcmtk
from tests.peers.encoding import Context
from tests.peers.part10 import assert_file_meta, read_part10
from tests.peers.raw_scu import Accepted, RawScu, Response
from tests.peers.server import FastScp

MISMATCH, CANNOT_UNDERSTAND, NOT_NEGOTIATED = 0xA900, 0xC000, None
_NO_UIDS = "its data set has no Study and Series Instance UID"
_OTHER_INSTANCE = "its file meta and its data set name different SOP instances"
_DICOMDIR = "a DICOMDIR is no instance that is sent"
_PALETTE = "a color palette belongs to no study"

REFUSED: dict[str, tuple[int | None, str]] = {
    "pydicom/charset_files/chrJapMulti.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/charset_files/chrJapMultiExplicitIR6.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/test_files/badVR.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/test_files/rtdose.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/test_files/rtdose_1frame.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/test_files/rtdose_expb.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/test_files/rtdose_expb_1frame.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/test_files/rtplan.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/test_files/rtplan_truncated.dcm": (MISMATCH, _OTHER_INSTANCE),
    "data_store/bad_sequence.dcm": (CANNOT_UNDERSTAND, "its UIDs are hexadecimal digests"),
    "pynetdicom/dicom_files/RTImageStorage.dcm": (MISMATCH, _OTHER_INSTANCE),
    "pydicom/charset_files/chrSQEncoding.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/charset_files/chrSQEncoding1.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/palettes/fall.dcm": (NOT_NEGOTIATED, _PALETTE),
    "pydicom/palettes/hotiron.dcm": (NOT_NEGOTIATED, _PALETTE),
    "pydicom/palettes/hotmetalblue.dcm": (NOT_NEGOTIATED, _PALETTE),
    "pydicom/palettes/pet.dcm": (NOT_NEGOTIATED, _PALETTE),
    "pydicom/palettes/pet20step.dcm": (NOT_NEGOTIATED, _PALETTE),
    "pydicom/palettes/spring.dcm": (NOT_NEGOTIATED, _PALETTE),
    "pydicom/palettes/summer.dcm": (NOT_NEGOTIATED, _PALETTE),
    "pydicom/palettes/winter.dcm": (NOT_NEGOTIATED, _PALETTE),
    "pydicom/test_files/JPEGLSNearLossless_08.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/JPEGLSNearLossless_16.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/SC_rgb_jls_lossy_line.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/SC_rgb_jls_lossy_sample.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/UN_sequence.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/empty_charset_LEI.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/meta_missing_tsyntax.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/nested_priv_SQ.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/no_meta.dcm": (CANNOT_UNDERSTAND, "a stray byte stands before its first element"),
    "pydicom/test_files/no_meta_group_length.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/priv_SQ.dcm": (CANNOT_UNDERSTAND, _NO_UIDS),
    "pydicom/test_files/SC_rgb_jpeg.dcm": (CANNOT_UNDERSTAND, "its data set has implicit VRs under a transfer syntax with explicit VRs"),
    "pydicom/test_files/dicomdirtests/DICOMDIR": (NOT_NEGOTIATED, _DICOMDIR),
    "pydicom/test_files/dicomdirtests/DICOMDIR-bigEnd": (NOT_NEGOTIATED, _DICOMDIR),
    "pydicom/test_files/dicomdirtests/DICOMDIR-empty.dcm": (NOT_NEGOTIATED, _DICOMDIR),
    "pydicom/test_files/dicomdirtests/DICOMDIR-implicit": (NOT_NEGOTIATED, _DICOMDIR),
    "pydicom/test_files/dicomdirtests/DICOMDIR-nooffset": (NOT_NEGOTIATED, _DICOMDIR),
    "pydicom/test_files/dicomdirtests/DICOMDIR-nopatient": (NOT_NEGOTIATED, _DICOMDIR),
    "pydicom/test_files/dicomdirtests/DICOMDIR-reordered": (NOT_NEGOTIATED, _DICOMDIR),
    "pydicom/test_files/dicomdirtests/TINY_ALPHA/DICOMDIR": (NOT_NEGOTIATED, _DICOMDIR),
}
"""Files that must not be stored: their status, or None where their presentation context is refused, and why."""


@dataclass(frozen=True)
class Outcome:
    """What came of sending one sample: the answer, and a copy of the file that then stood under the final name."""

    response: Response | None
    """None where the presentation context was refused, so that nothing could be sent."""
    stored: Path | None


@dataclass(frozen=True)
class Run:
    accepted: Accepted
    outcomes: dict[str, Outcome]


@pytest.fixture(scope="module")
def run(receiver: FastScp, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All samples over one association, each in its own transfer syntax.

    Some samples share a SOP Instance UID, so what was stored is copied away before the next one overwrites it.
    """
    copies = tmp_path_factory.mktemp("copies")
    pairs = sorted({(sample.sop_class, sample.transfer_syntax) for sample in samples().values()})
    context_ids = {pair: 2 * at + 1 for at, pair in enumerate(pairs)}
    assert len(pairs) <= 128
    outcomes: dict[str, Outcome] = {}
    with RawScu(receiver.port) as scu:
        accepted = scu.associate([Context(number, pair[0], (pair[1],)) for pair, number in context_ids.items()], calling=b"CORPUS")
        for number, (name, sample) in enumerate(samples().items()):
            before = {path: path.stat().st_mtime_ns for path in receiver.stored_files().values()}
            context_id = context_ids[sample.sop_class, sample.transfer_syntax]
            if accepted.results[context_id] != 0:
                outcomes[name] = Outcome(None, None)
                continue
            response = scu.store(
                sample.sop_class, sample.sop_instance, sample.data_set, context_id=context_id, message_id=number, data_pdv_bytes=30_001
            )
            after = {path: path.stat().st_mtime_ns for path in receiver.stored_files().values()}
            written = [path for path, modified in after.items() if before.get(path) != modified]
            assert len(written) <= 1, f"{name} wrote {written}"
            copy = copies / f"{number}" / written[0].relative_to(receiver.store) if written else None
            if copy is not None:
                copy.parent.mkdir(parents=True)
                shutil.copyfile(written[0], copy)
            outcomes[name] = Outcome(response, copy)
        scu.release()
    return Run(accepted, outcomes)


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> Sample:
    return samples()[request.param]


def test_corpus_is_whole() -> None:
    assert len(samples()) == 266
    assert len({sample.transfer_syntax for sample in samples().values()}) == 12
    assert set(REFUSED) <= set(samples())


@pytest.mark.parametrize("name", sorted(samples()))
def test_sample_is_stored_as_it_is_or_refused_for_its_fault(run: Run, name: str) -> None:
    sample, outcome = samples()[name], run.outcomes[name]
    if name in REFUSED and REFUSED[name][0] is NOT_NEGOTIATED:
        assert outcome.response is None, REFUSED[name][1]
        return
    assert outcome.response is not None, "its presentation context was refused"
    if name in REFUSED:
        status, why = REFUSED[name]
        assert f"{outcome.response.status:04X}" == f"{status:04X}", f"{why}; comment: {outcome.response.comment}"
        assert 0 < len(outcome.response.comment) <= 64
        assert outcome.stored is None
        return
    assert outcome.response.status == 0, f"{outcome.response.status:04X} {outcome.response.comment}"
    assert outcome.stored is not None
    stored = read_part10(outcome.stored)
    assert stored.data_set == sample.data_set
    assert_file_meta(
        stored,
        sop_class=sample.sop_class,
        sop_instance=sample.sop_instance,
        transfer_syntax=sample.transfer_syntax,
        source_ae="CORPUS",
        implementation_class=run.accepted.implementation_class_uid,
        implementation_version=run.accepted.implementation_version_name,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmread(outcome.stored)
        dataset = pydicom.dcmread(outcome.stored, stop_before_pixels=True)
    series, study = outcome.stored.parent, outcome.stored.parent.parent
    assert (study.name, series.name, outcome.stored.name) == (
        dataset.StudyInstanceUID,
        dataset.SeriesInstanceUID,
        f"{dataset.SOPInstanceUID}.dcm",
    )


@pytest.mark.requires_dcmtk
def test_every_stored_sample_is_readable_by_dcmdump(run: Run) -> None:
    """Where dcmdump cannot read the original file either, the fault is in the data set and has to be kept."""
    unreadable = []
    for name, outcome in run.outcomes.items():
        if outcome.stored is None or _dcmdump(outcome.stored):
            continue
        if _dcmdump(samples()[name].path):
            unreadable.append(name)
    assert not unreadable


def _dcmdump(path: Path) -> bool:
    return subprocess.run([dcmtk("dcmdump"), "-q", str(path)], capture_output=True, check=False).returncode == 0
