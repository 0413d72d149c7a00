"""A receiver, sample images sent to it by a real SCU, and a table of what arrived.

Enters: a free port 11112. Leaves: files under ./received. Never: an image that the receiver did not acknowledge in the table.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pydicom
from pydicom.data import get_testdata_file
from rich.console import Console
from rich.table import Table

HOST, PORT = "127.0.0.1", 11112
STORE = Path("received")
START_TIMEOUT_S, SEND_TIMEOUT_S = 60, 120
SAMPLES = [
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
]
# What storescu has to be told so that it proposes the file's own syntax.
DCMTK_OPTIONS = {
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
console = Console(highlight=False)


class Receiver:
    """`fastscp serve` in a process of its own."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.plain: list[str] = []
        command = [sys.executable, "-m", "fastscp", "serve", "--port", str(PORT), "--store", str(STORE), "--admin-port", "0"]
        # A session of its own: Ctrl-C reaches this program, which then asks the receiver to drain.
        self.process = subprocess.Popen(
            [*command, "--log-format", "json"], stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.records.append(json.loads(line))
            except ValueError:
                self.plain.append(line.strip())

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not any(record.get("event") == "ready" for record in self.records):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self._reader.join(5)
                sys.exit("\n".join(self.plain) or "the receiver did not start")
            time.sleep(0.05)

    def drain(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


def port_is_free() -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", PORT))
        except OSError:
            return False
        return True


def send(path: Path, transfer_syntax: str) -> tuple[str, bool]:
    """Send one file with DCMTK's storescu where it is there and can, with pynetdicom's otherwise. (program, acknowledged)."""
    dcmdump = shutil.which("dcmdump")
    if dcmdump and transfer_syntax in DCMTK_OPTIONS:
        # Beside dcmdump, because pynetdicom installs a storescu too.
        storescu = str(Path(dcmdump).with_name("storescu"))
        name, command = "DCMTK", [storescu, "-v", "-R", DCMTK_OPTIONS[transfer_syntax], HOST, str(PORT), str(path)]
    else:
        name, command = "pynetdicom", [sys.executable, "-m", "pynetdicom", "storescu", "-v", "-cx", HOST, str(PORT), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SEND_TIMEOUT_S, check=False)
    # pynetdicom's exit code does not tell what became of a file: its log does.
    output = done.stdout + done.stderr
    return name, done.returncode == 0 and ("(Success)" in output or "0x0000" in output)


def show() -> int:
    """Send the samples and print the table. Returns how many were not received."""
    table = Table(title="Received", title_justify="left")
    for heading, justify in (
        ("SOP class", "left"),
        ("Transfer syntax", "left"),
        ("File", "right"),
        ("Sent by", "left"),
        ("Status", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    failed = 0
    for sample in SAMPLES:
        path = Path(str(get_testdata_file(sample, download=False)))
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        name, acknowledged = send(path, str(dataset.file_meta.TransferSyntaxUID))
        stored = STORE / str(dataset.StudyInstanceUID) / str(dataset.SeriesInstanceUID) / f"{dataset.SOPInstanceUID}.dcm"
        if not (acknowledged and stored.is_file()):
            failed += 1
            table.add_row(dataset.SOPClassUID.name, dataset.file_meta.TransferSyntaxUID.name, "", name, "[red]not received[/red]")
            continue
        received = pydicom.dcmread(stored, stop_before_pixels=True)
        size = f"{stored.stat().st_size / 1000:,.1f} kB"
        table.add_row(received.SOPClassUID.name, received.file_meta.TransferSyntaxUID.name, size, name, "[green]0000 Success[/green]")
    console.print(table)
    return failed


def main() -> int:
    if not port_is_free():
        sys.exit(f"Port {PORT} is taken by another program. Stop that one (on Linux, `ss -ltnp 'sport = :{PORT}'` shows it) and try again.")
    STORE.mkdir(exist_ok=True)
    receiver = Receiver()
    try:
        receiver.wait_ready()
        console.print(f"fastscp listens on port {PORT}, AE title FASTSCP.\n")
        failed = show()
        console.print(f"\nThe files are in [bold]{STORE.resolve()}{os.sep}[/bold] as <study>/<series>/<instance>.dcm. Send your own:\n")
        console.print(f"    storescu -aec FASTSCP +sd +r {HOST} {PORT} <folder with DICOM files>", markup=False)
        console.print(f"    {os.path.relpath(sys.executable)} -m pynetdicom storescu {HOST} {PORT} <file or folder> -r -cx", markup=False)
        console.print("\nCtrl-C ends it.")
        code = receiver.process.wait()
        sys.exit("\n".join(receiver.plain) or f"the receiver ended with exit code {code}")
    except KeyboardInterrupt:
        console.print("\nDraining: what is being sent is finished ...")
        code = receiver.drain()
        console.print("Drained, everything acknowledged is stored." if code == 0 else f"The receiver ended with exit code {code}.")
        return code or int(failed > 0)
    finally:
        if receiver.process.poll() is None:
            receiver.process.kill()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
