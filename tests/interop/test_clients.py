"""DCMTK's and pynetdicom's own programs against the receiver, through a wire tap.

Enters: sample files. Leaves: proof that each stored data set is what the client put on the wire. Never: a client's word for it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from tests.interop.corpus import WITHOUT_META, samples
from tests.interop.test_corpus import REFUSED
from tests.peers.dcmtk import dcmtk
from tests.peers.encoding import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from tests.peers.part10 import assert_file_meta, read_part10
from tests.peers.server import FastScp
from tests.peers.tap import Tap, TappedStore

CLIENT_TIMEOUT_S = 100
UIDS_AS_UN = {
    "data_store/explicit_VR-UN.dcm",
    "pydicom/test_files/rtdose_rle.dcm",
    "pydicom/test_files/rtdose_rle_1frame.dcm",
}
"""Files whose UIDs have the VR UN, where DCMTK's clients do not find them."""
TRUNCATED = {"pydicom/test_files/MR_truncated.dcm"}
"""A file that ends inside its pixel data, which dcmsend notices."""
UNCOMPRESSED = {IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE}
PYNETDICOM = [sys.executable, "-m", "pynetdicom"]


@dataclass(frozen=True)
class Client:
    """A finished client program and what the tap saw of it."""

    exit_code: int
    output: str
    stores: list[TappedStore]


def run_client(receiver: FastScp, command: list[str], *paths: Path) -> Client:
    """Run `command`, its "{port}" replaced by the tap's port, with `paths` after it."""
    with Tap(receiver.port) as tap:
        arguments = [each.replace("{port}", str(tap.port)) for each in command] + [str(path) for path in paths]
        done = subprocess.run(arguments, capture_output=True, text=True, errors="replace", timeout=CLIENT_TIMEOUT_S, check=False)
        return Client(done.returncode, done.stdout + done.stderr, tap.all_stores())


def folder_of(names: Iterable[str], folder: Path) -> Path:
    """The named samples in a tree two levels deep, as a modality's export would lie on a disk."""
    for number, name in enumerate(sorted(names)):
        place = folder / f"study{number % 3}" / f"{number:03}.dcm"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(samples()[name].path, place)
    return folder


def sendable(*transfer_syntaxes: str) -> set[str]:
    """Samples in these syntaxes that a receiver has to take."""
    return {
        name for name, each in samples().items() if name not in REFUSED and each.transfer_syntax in transfer_syntaxes and each.path.suffix
    }


def assert_all_stored(client: Client, names: set[str], transfer_syntax: str = "") -> None:
    """Each instance among these files was acknowledged (in this transfer syntax), and none beside them."""
    kept = {each.sop_instance for each in client.stores if each.status == 0 and transfer_syntax in ("", each.transfer_syntax)}
    missing = sorted(name for name in names if not instances([name]) <= kept)
    assert not missing, client.output
    assert kept <= instances(names)


def instances(names: Iterable[str]) -> set[str]:
    found = set()
    for name in names:
        dataset = pydicom.dcmread(samples()[name].path, stop_before_pixels=True, force=True, specific_tags=["SOPInstanceUID"])
        found.add(str(dataset.SOPInstanceUID))
    return found


def assert_stored_as_tapped(receiver: FastScp, stores: list[TappedStore]) -> None:
    """The last acknowledged data set of each instance is the one in its file, byte for byte."""
    acknowledged = {each.sop_instance: each for each in stores if each.status == 0}
    assert acknowledged
    files = {path.stem: path for path in receiver.stored_files().values()}
    for sop_instance, sent in acknowledged.items():
        stored = read_part10(files[sop_instance])
        assert stored.data_set == sent.data_set, sop_instance
        assert_file_meta(
            stored,
            sop_class=sent.sop_class,
            sop_instance=sop_instance,
            transfer_syntax=sent.transfer_syntax,
            source_ae=sent.calling,
            implementation_class=sent.implementation_class,
            implementation_version=sent.implementation_version,
        )


STORESCU_SYNTAXES = [
    ("-xs", "1.2.840.10008.1.2.4.70"),
    ("-xy", "1.2.840.10008.1.2.4.50"),
    ("-xx", "1.2.840.10008.1.2.4.51"),
    ("-xv", "1.2.840.10008.1.2.4.90"),
    ("-xw", "1.2.840.10008.1.2.4.91"),
    ("-xt", "1.2.840.10008.1.2.4.80"),
    ("-xr", "1.2.840.10008.1.2.5"),
    ("-xd", "1.2.840.10008.1.2.1.99"),
]


@pytest.mark.requires_dcmtk
@pytest.mark.parametrize(("option", "transfer_syntax"), STORESCU_SYNTAXES)
def test_storescu_compressed(receiver: FastScp, tmp_path: Path, option: str, transfer_syntax: str) -> None:
    names = sendable(transfer_syntax) - UIDS_AS_UN
    client = run_client(
        receiver, [dcmtk("storescu"), "-nh", option, "-R", "+sd", "+r", "127.0.0.1", "{port}"], folder_of(names, tmp_path / "in")
    )
    assert_all_stored(client, names, transfer_syntax)
    assert_stored_as_tapped(receiver, client.stores)


@pytest.mark.requires_dcmtk
def test_storescu_near_lossless(receiver: FastScp, tmp_path: Path) -> None:
    """No sample in this syntax has the UIDs to be stored, so one is compressed here."""
    source = samples()["pydicom/test_files/examples_rgb_color.dcm"]
    compressed = tmp_path / "near.dcm"
    subprocess.run([dcmtk("dcmcjpls"), "+en", str(source.path), str(compressed)], check=True, capture_output=True, timeout=30)
    client = run_client(receiver, [dcmtk("storescu"), "-xu", "127.0.0.1", "{port}"], compressed)
    assert [(each.status, each.transfer_syntax) for each in client.stores] == [(0, "1.2.840.10008.1.2.4.81")], client.output
    assert_stored_as_tapped(receiver, client.stores)


@pytest.mark.requires_dcmtk
def test_storescu_with_every_context_it_knows(receiver: FastScp, tmp_path: Path) -> None:
    """Without -R it proposes 128 presentation contexts, whatever the files are."""
    names = {"pydicom/test_files/CT_small.dcm", "pydicom/test_files/MR_small.dcm", "pydicom/test_files/test-SR.dcm"}
    client = run_client(receiver, [dcmtk("storescu"), "+sd", "+r", "127.0.0.1", "{port}"], folder_of(names, tmp_path / "in"))
    assert client.exit_code == 0, client.output
    assert_all_stored(client, names)
    assert_stored_as_tapped(receiver, client.stores)


@pytest.mark.requires_dcmtk
@pytest.mark.parametrize(
    ("option", "used"),
    [("-x=", {EXPLICIT_LE, EXPLICIT_BE}), ("-xe", {EXPLICIT_LE}), ("-xb", {EXPLICIT_BE}), ("-xi", {IMPLICIT_LE})],
)
def test_storescu_uncompressed(receiver: FastScp, tmp_path: Path, option: str, used: set[str]) -> None:
    """Files in three encodings, which storescu turns into the one that it prefers."""
    names = {name for name in sendable(*UNCOMPRESSED) if samples()[name].path.stat().st_size < 200_000}
    client = run_client(
        receiver, [dcmtk("storescu"), "-nh", option, "-R", "+sd", "+r", "127.0.0.1", "{port}"], folder_of(names, tmp_path / "in")
    )
    assert_all_stored(client, names)
    assert {each.transfer_syntax for each in client.stores} <= used | UNCOMPRESSED
    assert_stored_as_tapped(receiver, client.stores)


@pytest.mark.requires_dcmtk
def test_dcmsend_of_everything(receiver: FastScp, tmp_path: Path) -> None:
    names = sendable(*{each.transfer_syntax for each in samples().values()}) - UIDS_AS_UN - TRUNCATED - set(WITHOUT_META)
    client = run_client(
        receiver, [dcmtk("dcmsend"), "+sd", "+r", "-nh", "-dn", "-nuc", "127.0.0.1", "{port}"], folder_of(names, tmp_path / "in")
    )
    assert_all_stored(client, names)
    assert_stored_as_tapped(receiver, client.stores)


@pytest.mark.parametrize("option", ["-cx", "-xe", "-xb", "-xi"])
def test_pynetdicom_storescu(receiver: FastScp, tmp_path: Path, option: str) -> None:
    everything = {each.transfer_syntax for each in samples().values()}
    syntaxes = {"-xe": {EXPLICIT_LE}, "-xb": {EXPLICIT_BE}, "-xi": {IMPLICIT_LE}}.get(option, everything)
    names = sendable(*syntaxes) - set(WITHOUT_META)
    client = run_client(receiver, [*PYNETDICOM, "storescu", "127.0.0.1", "{port}", "-r", option], folder_of(names, tmp_path / "in"))
    assert_all_stored(client, names)
    assert_stored_as_tapped(receiver, client.stores)


@pytest.mark.requires_dcmtk
def test_dcmtk_echoscu(receiver: FastScp) -> None:
    done = subprocess.run(
        [dcmtk("echoscu"), "-v", "127.0.0.1", str(receiver.port)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Received Echo Response (Success)" in done.stderr


def test_pynetdicom_echoscu(receiver: FastScp) -> None:
    command = [*PYNETDICOM, "echoscu", "127.0.0.1", str(receiver.port), "-v"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "0x0000" in done.stdout + done.stderr
