"""Where and with what a run was made.

Enters: nothing. Leaves: facts about the machine and the versions. Never: host names, user names or paths.
"""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.native_tools import COMPILE


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    return output.splitlines()[0].strip() if output else None


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _package(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    root = Path(__file__).parents[1]
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    return described.stdout.strip() or None


def facts() -> dict[str, str | None]:
    """By name; None where it could not be found out."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    dcmtk = _first_line("storescp", "--version")
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory_gib:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "compiler": _first_line(COMPILE[0], "--version"),
        "fastscp": _revision(),
        "pynetdicom": _package("pynetdicom"),
        "pydicom": _package("pydicom"),
        "dcmtk": dcmtk.strip("$ ") if dcmtk else None,
        "orthanc": _first_line("Orthanc", "--version"),
    }


def load_average() -> str:
    """The last minute's, as a hint of what else ran."""
    return f"{os.getloadavg()[0]:.2f}"
