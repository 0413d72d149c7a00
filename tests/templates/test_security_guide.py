"""Each control of docs/security.md is where the guide says, and what holds it is a rule or a test that exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastscp.local.templates import load
from tests.templates import guard_network, guard_policies, guard_receiver, guard_vpc, guard_wiring  # noqa: F401 - they register their rules
from tests.templates.deployments import CFN, VARIANTS, deployed
from tests.templates.guard import RULES

ROOT = CFN.parent
GUIDE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def controls() -> Iterator[tuple[str, str, str]]:
    """Rows of the tables of controls: what is promised, where it is, what holds it."""
    section = GUIDE.partition("## Controls")[2].partition("## Threat model")[0]
    for row in re.findall(r"^\| (.*) \|$", section, re.MULTILINE):
        cells = row.split(" | ")
        if cells[0] != "control" and not cells[0].startswith("---"):
            assert len(cells) == 3, row
            yield cells[0], cells[1], cells[2]


def functions_of_tests() -> set[str]:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    return set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))


def targets_of_make() -> set[str]:
    return {f"make {name}" for name in re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)}


def test_there_are_controls() -> None:
    assert len(list(controls())) > 30


@pytest.mark.parametrize(("control", "where", "held_by"), list(controls()), ids=lambda text: text[:40])
def test_a_control_is_where_the_guide_says(control: str, where: str, held_by: str) -> None:
    for file, resource in re.findall(r"`([\w-]+\.yaml):(\w+)`", where):
        assert resource in load(CFN / file)["Resources"], f"{file} has no {resource}"
    for file in re.findall(r"`(Dockerfile)`", where):
        assert Path(ROOT / file).exists()
    assert re.search(r"`|the receiver", where)
    known = {*RULES, *functions_of_tests(), *targets_of_make()}
    for name in re.findall(r"`([^`]+)`", held_by):
        assert name in known, f"{control}: nothing is called {name}"
    assert "`" in held_by


def test_every_rule_is_behind_a_control_or_the_workflow() -> None:
    named = {name for _, _, held_by in controls() for name in re.findall(r"`(\w+)`", held_by)}
    # These hold that it works, not that it is safe.
    wiring = {
        "it_scales_with_load",
        "the_receiver_takes_its_settings",
        "manifests_and_inbox_files_reach_the_queue",
        "messages_are_tried_and_then_kept",
        "the_tables_are_those_of_the_workflow",
        "the_functions_have_their_environment",
        "the_state_machine_calls_the_functions",
    }
    assert set(RULES) == named.intersection(RULES) | wiring


def test_there_is_no_user_and_no_secret() -> None:
    for variant in VARIANTS:
        types = {resource.type for resource in deployed(variant).resources.values()}
        assert not types & {"AWS::IAM::User", "AWS::IAM::AccessKey", "AWS::SecretsManager::Secret"}
