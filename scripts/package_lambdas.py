"""The zip of the Lambda functions: `lambdas/` and what it needs, the same bytes from the same sources and the same zlib.

Enters: lambdas/, its requirements.txt, wheels. Leaves: build/lambdas.zip. Never: compiled code, a time, a version that was not named.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "lambdas"

# Services of botocore and boto3 that the functions call; the descriptions of the others are most of their size.
SERVICES = {"dynamodb", "medical-imaging", "s3", "sso", "sso-oidc", "stepfunctions", "sts"}
EPOCH = (1980, 1, 1, 0, 0, 0)


def vendor(into: Path) -> None:
    """Install what requirements.txt names, as wheels for any machine."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    pure = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none", "--python-version=3.11"]
    subprocess.run([*pip, *pure, f"--target={into}", f"--requirement={SOURCES / 'requirements.txt'}"], check=True)
    for package in ("botocore", "boto3"):
        for service in (into / package / "data").iterdir():
            if service.is_dir() and service.name not in SERVICES:
                shutil.rmtree(service)
    for unused in (into / "pydicom" / "data" / "test_files", into / "pydicom" / "data" / "charset_files", into / "bin"):
        shutil.rmtree(unused, ignore_errors=True)


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """What goes into the zip from a folder, in order. Notes of the installer and what Python compiled are left out."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_dir() or "__pycache__" in name.parts or path.name in {"RECORD", "INSTALLER", "REQUESTED", "requirements.txt"}:
            continue
        if path.suffix in {".so", ".pyd", ".dylib"}:
            raise ValueError(f"{name} is compiled")
        yield name.as_posix(), path


def write_zip(to: Path, *folders: Path) -> None:
    """Write a zip that shows nothing of when, by whom and on what it was made."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, path in sorted(pair for folder in folders for pair in files(folder)):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "lambdas.zip")
    to: Path = parser.parse_args().to
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        vendor(Path(scratch))
        write_zip(to, SOURCES, Path(scratch))
    sys.stdout.write(f"{to} ({to.stat().st_size} bytes)\n")


if __name__ == "__main__":
    main()
