"""docs/operations.md lists every option, metric, label value and log event, and none that there is not."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from fastscp.errors import RefusalReason
from fastscp.observe import metrics as module
from fastscp.observe.emf import UNITS
from fastscp.observe.families import families_of
from fastscp.observe.metrics import Metrics
from fastscp.settings import OPTIONS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operations.md").read_text()
RECEIVER = ("association", "batches", "observe", "receive", "service", "stores")
LEVELS = {"debug", "info", "warning", "error", "exception"}


def section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def first_cells(text: str) -> set[str]:
    """Everything in backticks in the first column of the tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def logged(path: Path) -> set[str]:
    """Events that a module logs."""
    events = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and re.fullmatch("[a-z_]+", first.value):
                events.add(first.value)
    return events


def all_events() -> set[str]:
    modules = [path for part in RECEIVER for path in (ROOT / "src" / "fastscp" / part).rglob("*.py")]
    events = {event for path in [*modules, ROOT / "src" / "fastscp" / "cli" / "__init__.py"] for event in logged(path)}
    # Written by a choice of two methods.
    return events | {"library_warning"}


def all_metrics() -> set[str]:
    metrics = Metrics("1")
    metrics.track_batches(lambda: 0, lambda: 0, lambda: 0)
    names = set()
    for family in families_of(metrics.registry):
        names.add(family.name + {"counter": "_total", "info": "_info"}.get(family.kind, ""))
    return {name for name in names if not name.endswith("_created")}


def test_every_option_is_listed() -> None:
    # An option with a short name in a row may share it with another.
    assert {option.flag for option in OPTIONS.values()} | {"--config"} == {
        name for name in first_cells(section("Options")) if name.startswith("--")
    }


def test_every_metric_is_listed() -> None:
    listed = {name for name in first_cells(section("Metrics")) if name.startswith("fastscp_")}
    assert listed == all_metrics()


def test_every_metric_in_cloudwatch_is_listed_with_its_unit() -> None:
    table = section("Metrics").partition("### Metrics in CloudWatch\n")[2].partition("### ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    listed: dict[str, str] = {}
    for row in rows:
        names, units = re.findall(r"`(\w+)`", row[1]), [unit.strip() for unit in row[2].split(",")]
        listed |= dict(zip(names, units * len(names) if len(units) == 1 else units, strict=True))
    assert listed == UNITS


@pytest.mark.parametrize(
    "values",
    [module.AssociationOutcome, module.RejectionReason, module.ConnectionResult, RefusalReason],
    ids=["outcome", "rejection", "result", "refusal"],
)
def test_every_label_value_is_listed(values: object) -> None:
    in_backticks = set(re.findall(r"`([^`]+)`", section("Metrics")))
    assert set(get_args(values)) <= in_backticks


def test_every_log_event_is_listed() -> None:
    assert all_events() == first_cells(section("Log"))


def test_there_is_something_to_list() -> None:
    assert {"ready", "association_ended", "worker_died", "batch_closed", "instance_refused"} <= all_events()
