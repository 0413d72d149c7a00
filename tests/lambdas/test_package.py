"""The zip of the functions: the same each time, complete, and nothing in it is compiled."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import package_lambdas

HANDLERS = ("trigger_import", "start_import_job", "check_status", "sweep_batches")

# With nothing but the zip's content on the path: -I leaves out what the environment names, -S the packages of this interpreter.
IMPORT_ALL = f"""
import sys
sys.path.insert(0, sys.argv[1])
for name in {HANDLERS!r}:
    assert callable(__import__(name + ".handler", fromlist=["handler"]).handler)
from importflow.workflow import make_clients
clients = make_clients()
assert clients.imaging.meta.service_model.service_name == "medical-imaging"
outside = [m.__file__ for m in sys.modules.values() if "site-packages" in (getattr(m, "__file__", None) or "")]
assert not outside, outside
"""


def test_the_zip_is_complete_and_the_same_each_time(tmp_path: Path) -> None:
    package_lambdas.vendor(tmp_path / "vendored")
    zips = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for path in zips:
        package_lambdas.write_zip(path, package_lambdas.SOURCES, tmp_path / "vendored")
        for file in (tmp_path / "vendored").rglob("*.py"):
            os.utime(file, (1, 1))
    assert zips[0].read_bytes() == zips[1].read_bytes()
    with zipfile.ZipFile(zips[0]) as archive:
        names = archive.namelist()
        assert not [name for name in names if Path(name).suffix in {".so", ".pyc", ".pyd"}]
        assert sum(entry.file_size for entry in archive.infolist()) < 50_000_000
        archive.extractall(tmp_path / "code")
    environment = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "POWERTOOLS_SERVICE_NAME": "import"}
    command = [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(tmp_path / "code")]
    subprocess.run(command, env=environment, check=True, timeout=60)


def test_compiled_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "fast.so").write_bytes(b"")
    with pytest.raises(ValueError, match="compiled"):
        package_lambdas.write_zip(tmp_path / "out.zip", tmp_path / "in")
