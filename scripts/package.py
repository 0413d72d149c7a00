"""The artefacts of a deployment: templates, state machine and functions under one prefix that is made of their content.

Enters: cfn/, build/lambdas.zip. Leaves: build/package/fastscp/<digest>/, and the prefix on stdout. Never: a request, a changed file.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
PREFIX = "fastscp"


def artefacts() -> list[Path]:
    """What main.yaml finds under its ArtifactPrefix, and main.yaml."""
    templates = sorted(path for path in (ROOT / "cfn").glob("*.yaml") if path.name != "repository.yaml")
    return [*templates, ROOT / "cfn" / "statemachine" / "import.asl.json", ROOT / "build" / "lambdas.zip"]


def package(into: Path) -> str:
    """Copy the artefacts. Returns their prefix, which is another as soon as one of them is: what is deployed stays as it was."""
    paths = artefacts()
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    prefix = f"{PREFIX}/{digest.hexdigest()[:16]}/"
    target = into / prefix
    target.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copyfile(path, target / path.name)
    return prefix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "package")
    print(package(parser.parse_args().into))


if __name__ == "__main__":
    main()
