"""Builds the image without Docker, lets it receive a burst, and stops it in the middle of another.

Enters: buildah, debootstrap and DCMTK, as root on Debian. Leaves: exit 0 where the image did what it should. Never: a registry.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from pydicom.data import get_testdata_file

ROOT = Path(__file__).parents[1]
BASE_IMAGE, IMAGE = "localhost/fastscp-smoke-base:1", "localhost/fastscp-smoke:1"
# The machine's own certificates and settings of apt and pip, so that a build behind a proxy works; they are in no layer of the image.
FROM_THE_MACHINE = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
DEADLINE_S = 120.0


def buildah(storage: Path, *arguments: str) -> list[str]:
    return ["buildah", "--storage-driver", "vfs", "--root", str(storage / "root"), "--runroot", str(storage / "run"), *arguments]


def make_base(work: Path) -> None:
    """A base with Python, out of the distribution's packages: what the Dockerfile takes for BASE where no registry can be reached."""
    root = work / "base"
    include = "--include=python3,python3-venv,ca-certificates"
    subprocess.run(["debootstrap", "--variant=minbase", include, "bookworm", str(root)], check=True, stdout=subprocess.DEVNULL)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    subprocess.run(["tar", "-C", str(root), "-cf", str(work / "base.tar"), "."], check=True)
    shutil.rmtree(root)
    (work / "Dockerfile.base").write_text("FROM scratch\nADD base.tar /\n")
    build(work, work, work / "Dockerfile.base", BASE_IMAGE)


def build(work: Path, context: Path, dockerfile: Path, name: str, *arguments: str) -> None:
    volumes = [f"--volume={path}:{path}:ro" for path in FROM_THE_MACHINE if Path(path).exists() and name == IMAGE]
    command = buildah(work / "storage", "bud", "--isolation", "chroot", "--network", "host", "--format", "docker", "--pull-never")
    subprocess.run([*command, *volumes, *arguments, "--file", str(dockerfile), "--tag", name, str(context)], check=True)


def inspect(work: Path) -> None:
    """What the image says of itself, and what is not in it."""
    command = buildah(work / "storage", "inspect", "--type", "image", IMAGE)
    config = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["Docker"]["config"]
    assert config["User"] == "10001:10001", config["User"]
    assert config["Healthcheck"]["Test"][0] == "CMD", config
    assert config["StopSignal"] == "SIGTERM", config
    assert config["Labels"]["org.opencontainers.image.title"] == "fastscp", config["Labels"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Container:
    """One container, in the machine's network, with a volume for what it receives."""

    def __init__(self, work: Path) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.received = work / "received"
        self.received.mkdir()
        os.chown(self.received, 10001, 10001)
        run = buildah(work / "storage", "from", "--pull-never", IMAGE)
        self._name = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
        environment = {
            "FASTSCP_HOST": "127.0.0.1",
            "FASTSCP_PORT": self.port,
            "FASTSCP_ADMIN_PORT": self.admin_port,
            "FASTSCP_STORE": "/received",
            "FASTSCP_LOG_FORMAT": "json",
        }
        command = buildah(work / "storage", "run", "--isolation", "chroot", "--network", "host", "--volume", f"{self.received}:/received")
        command += [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        self.log = work / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([*command, self._name, "--", "fastscp", "serve"], stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"the container is not ready:\n{self.log.read_text()}")

    def _descendants(self) -> list[int]:
        """All processes below buildah's and that one itself, parents first."""
        found, waiting = [], [self._process.pid]
        while waiting:
            found.append(waiting.pop(0))
            # A child belongs to the thread that started it.
            for task in Path(f"/proc/{found[-1]}/task").glob("*/children"):
                waiting += map(int, task.read_text().split())
        return found

    def _receiver(self) -> int:
        """The first of them that runs Python as the image's user: the supervisor."""
        for pid in self._descendants():
            program = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
            if program.endswith(b"/python") and Path(f"/proc/{pid}").stat().st_uid == 10001:
                return pid
        raise SystemExit("the receiver does not run as user 10001")

    def send(self, count: int) -> subprocess.Popen[bytes]:
        """A burst of storescu: as many copies of one CT image, each with a SOP Instance UID of its own."""
        options = ["--repeat", str(count), "--invent-instance", "--max-pdu", "131072"]
        path = str(get_testdata_file("CT_small.dcm"))
        return subprocess.Popen(
            ["storescu", *options, "-v", "127.0.0.1", str(self.port), path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def stored(self) -> int:
        return sum(1 for _ in self.received.rglob("*.dcm"))

    def stop(self) -> int:
        os.kill(self._receiver(), signal.SIGTERM)
        return self._process.wait(DEADLINE_S)

    def remove(self, work: Path) -> None:
        if self._process.poll() is None:
            for pid in reversed(self._descendants()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
        subprocess.run(buildah(work / "storage", "rm", self._name), check=False, stdout=subprocess.DEVNULL)


def successes(burst: subprocess.Popen[bytes]) -> int:
    output, _ = burst.communicate(timeout=DEADLINE_S)
    return output.count(b"Received Store Response (Success)")


def smoke(work: Path) -> None:
    container = Container(work)
    try:
        container.wait_until_ready()
        bursts = [container.send(50) for _ in range(4)]
        acknowledged = sum(map(successes, bursts))
        assert acknowledged == 200, f"{acknowledged} of 200 were acknowledged"
        assert container.stored() == 200, f"{container.stored()} of 200 are stored"
        last = container.send(2000)
        while container.stored() < 220:
            time.sleep(0.01)
        code = container.stop()
        acknowledged += successes(last)
        assert code == 0, f"exit code {code} after SIGTERM:\n{container.log.read_text()}"
        assert acknowledged <= container.stored(), f"{acknowledged} were acknowledged, and {container.stored()} are stored"
        assert '"event": "drained"' in container.log.read_text() or '"event":"drained"' in container.log.read_text()
        print(f"200 stored; SIGTERM in another burst: {acknowledged} acknowledged in all, {container.stored()} stored, exit 0")
    finally:
        container.remove(work)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="directory for everything (default: a temporary one)")
    parser.add_argument("--base", help="image that is here already and stands for BASE (default: one is made by debootstrap)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.work) as directory:
        work = Path(directory)
        if not given.base:
            make_base(work)
        build(work, ROOT, ROOT / "Dockerfile", IMAGE, "--build-arg", f"BASE={given.base or BASE_IMAGE}", "--build-arg", "REVISION=smoke")
        inspect(work)
        smoke(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
