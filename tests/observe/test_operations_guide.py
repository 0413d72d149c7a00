"""docs/operations.md lists every option, metric, label value and log event, and none that there is not."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

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
IN_MANY = {"association", "exc_info"}
"""The id of an association is in all of its records, as the guide says once; a traceback is no fact."""


def section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def first_cells(text: str) -> set[str]:
    """Everything in backticks in the first column of the tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


class Logged(NamedTuple):
    """One place in the code that writes a record."""

    event: str
    level: str
    facts: frozenset[str]


def logged(path: Path) -> Iterator[Logged]:
    """What a module logs."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and re.fullmatch("[a-z_]+", first.value):
                facts = frozenset(keyword.arg for keyword in node.keywords if keyword.arg is not None)
                yield Logged(first.value, "error" if node.func.attr == "exception" else node.func.attr, facts - IN_MANY)


def all_logged() -> list[Logged]:
    modules = [path for part in RECEIVER for path in (ROOT / "src" / "fastscp" / part).rglob("*.py")]
    found = [one for path in [*modules, ROOT / "src" / "fastscp" / "cli" / "__init__.py"] for one in logged(path)]
    # Written by a choice of two methods.
    return [*found, *(Logged("library_warning", level, frozenset()) for level in ("warning", "error"))]


def all_events() -> set[str]:
    return {one.event for one in all_logged()}


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


def rows_of_the_log() -> dict[str, list[str]]:
    """The cells of the row of each event."""
    rows = {}
    for line in section("Log").splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            rows |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells)
    return rows


def test_every_event_has_its_levels() -> None:
    in_code: dict[str, set[str]] = {}
    for one in all_logged():
        in_code.setdefault(one.event, set()).add(one.level)
    assert {event: {level.strip() for level in cells[1].split(",")} for event, cells in rows_of_the_log().items()} == in_code


def test_every_fact_is_listed() -> None:
    rows = rows_of_the_log()
    lacking = {(one.event, fact) for one in all_logged() for fact in one.facts if f"`{fact}`" not in rows[one.event][4]}
    assert lacking == set()


def test_of_every_warning_and_error_it_says_what_to_do() -> None:
    alarming = {one.event for one in all_logged() if one.level in ("warning", "error")}
    table = section("What to do when").partition("### Warnings and errors in the log\n")[2]
    assert first_cells(table) - {"needs_restart"} == alarming


def test_of_every_reason_it_says_where_to_look() -> None:
    tables = section("Metrics").partition("| `reason` of a refusal |")[2]
    assert first_cells(tables) >= set(get_args(RefusalReason)) | set(get_args(module.RejectionReason))


def test_there_is_something_to_list() -> None:
    assert {"ready", "association_ended", "worker_died", "batch_closed", "instance_refused"} <= all_events()
