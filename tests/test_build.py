"""A native module that cannot be built is never missing silently: the install fails.

Enters: a copy of the sources with something broken. Leaves: what pip says of it. Never: a change in this tree.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LIMIT_S = 110


def _lose_a_module(copy: Path) -> None:
    (copy / "src/fastscp/_ext/wire.pyx").unlink()


def _break_the_cython(copy: Path) -> None:
    # The first that is translated, so that the others are not waited for.
    source = copy / "src/fastscp/_ext/dimse.pyx"
    source.write_text(source.read_text() + "\ncdef int broken(:\n")


def _break_the_c(copy: Path) -> None:
    source = copy / "src/fastscp/_ext/dimse.pyx"
    source.write_text(source.read_text() + '\ncdef extern from *:\n    """\n    #error "broken"\n    """\n')


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [(_lose_a_module, "lacks wire.pyx"), (_break_the_cython, "dimse.pyx:"), (_break_the_c, "#error")],
)
def test_a_failed_build_fails_the_install(break_it: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    copy, target = tmp_path / "copy", tmp_path / "target"
    shutil.copytree(REPOSITORY / "src", copy / "src", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__", "*.egg-info"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, copy)
    break_it(copy)
    command = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target), str(copy)]
    installed = subprocess.run(
        [sys.executable, "-m", "pip", *command],
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert installed.returncode != 0
    assert reason in installed.stdout + installed.stderr
    assert not target.exists() or not any(target.iterdir())
