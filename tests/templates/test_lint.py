"""The public checkers find nothing: cfn-lint with everything that it has to say, statelint, and what both pass over in a state machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from statelint.linter import Linter

from tests.templates.deployments import CFN

DEFINITION = json.loads((CFN / "statemachine" / "import.asl.json").read_text(encoding="utf-8"))


def test_cfn_lint_finds_nothing() -> None:
    templates = [str(path) for path in sorted(CFN.glob("*.yaml"))]
    program = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run([program, "--include-checks", "I", "--", *templates], capture_output=True, text=True, check=False)
    assert found.stdout + found.stderr == ""
    assert found.returncode == 0


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([program, CFN.parent / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.stdout + found.stderr, found.returncode) == ("", 0)


def test_statelint_finds_nothing() -> None:
    assert Linter().validate(DEFINITION) == []


def targets(state: dict[str, Any]) -> set[str]:
    ways = [state, *state.get("Choices", []), *state.get("Catch", [])]
    return {way["Next"] for way in ways if "Next" in way} | ({state["Default"]} if "Default" in state else set())


def test_every_state_is_reached_and_every_way_leads_somewhere() -> None:
    states = DEFINITION["States"]
    waiting, reached = [DEFINITION["StartAt"]], set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += targets(states[name])
    assert reached == set(states)


def test_every_task_is_tried_again_and_every_failure_is_caught() -> None:
    for name, state in DEFINITION["States"].items():
        if state["Type"] == "Task":
            assert state.get("Retry"), name
            assert state.get("Catch") or name == "RecordFailure", name
        if state["Type"] == "Choice":
            assert "Default" in state, name
    assert DEFINITION["TimeoutSeconds"]
