"""An installed package has with it what `fastscp local` makes and runs: the functions, the templates, the state machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 110
# Where the package finds them by itself, and whether they can be read there.
ASK = """
from fastscp.local.deployed import functions_directory, templates_directory
from fastscp.local.stack import Pace, functions_of, local_stack
templates = templates_directory()
resolved = local_stack(templates, "0" * 32, Pace(), {})
(machine,) = resolved.of_type("AWS::StepFunctions::StateMachine")
definition = machine.properties["DefinitionS3Location"]["Key"].rpartition("/")[2]
for path in (functions_directory(), templates, templates / "statemachine" / definition):
    assert path.exists(), path
    print(path)
for function in functions_of(resolved).values():
    module = function.handler.rpartition(".")[0].replace(".", "/")
    assert (functions_directory() / f"{module}.py").is_file(), module
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel is packed from, without the native modules."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info", "bundled"))
    for name in ("lambdas", "cfn"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    # The translated modules of this tree will do: none of them is compiled.
    (copy / "build").mkdir()
    (copy / "build" / "last_build").write_text(f"release\n{(copy / 'setup.py').read_text()}")
    environment = {name: value for name, value in os.environ.items() if name != "FASTSCP_BUILD"}
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", "built"]
    subprocess.run(command, cwd=copy, env=environment, check=True, capture_output=True, timeout=LIMIT_S)
    return copy / "built"


def test_a_wheel_brings_functions_templates_and_state_machine(built: Path) -> None:
    bundled = built / "fastscp" / "local" / "bundled"
    answer = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=built,
        env={**os.environ, "PYTHONPATH": str(built)},
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert answer.stdout.splitlines() == [str(bundled / name) for name in ("lambdas", "cfn", "cfn/statemachine/import.asl.json")]


def test_a_wheel_brings_nothing_else_beside_the_package(built: Path) -> None:
    bundled = built / "fastscp" / "local" / "bundled"
    assert {path.suffix for path in bundled.rglob("*") if path.is_file()} == {".py", ".txt", ".yaml", ".json"}
    assert {path.name for path in (bundled / "cfn").iterdir() if path.is_dir()} == {"statemachine"}
    assert not list(bundled.rglob("__pycache__"))
