"""What all tests share: which build of the native modules runs, and which programs a test may need."""

import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

DCMTK_PROGRAMS = ("storescu", "dcmsend", "echoscu", "dcmdump")


def native_build() -> str:
    """The build of the native modules that will be imported: none, release (or debug), coverage or asan, told from the file itself."""
    spec = importlib.util.find_spec("fastscp._ext.memory")
    if spec is None or spec.origin is None:
        return "none"
    image = Path(spec.origin).read_bytes()
    if b"__asan_init" in image:
        return "asan"
    return "coverage" if b"__Pyx_TraceSetupAndCall" in image else "release"


def pytest_report_header() -> str:
    return f"native modules: {native_build()} build, DCMTK: {shutil.which('storescu') or 'absent'}"


def pytest_configure() -> None:
    wanted, found = os.environ.get("FASTSCP_BUILD"), native_build()
    if wanted == "asan" and found == "asan" and "libasan" not in Path("/proc/self/maps").read_text():
        pytest.exit("the sanitizer's runtime is not loaded", returncode=3)
    if wanted is not None and wanted != found:
        pytest.exit(f"the {wanted} build was to be tested, and the {found} build is what is there", returncode=3)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("requires_linux") and sys.platform != "linux":
        pytest.skip("needs Linux")
    if item.get_closest_marker("requires_dcmtk"):
        absent = [program for program in DCMTK_PROGRAMS if not shutil.which(program)]
        if absent and os.environ.get("CI") == "true":
            pytest.fail(f"DCMTK is incomplete: no {', '.join(absent)}", pytrace=False)
        if absent:
            pytest.skip(f"no {', '.join(absent)}")


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """For tests that set up logging for the process: as it was before, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
