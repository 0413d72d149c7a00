"""The result of a run as Markdown and JSON.

Enters: samples by work, receiver and round. Leaves: tables with medians and ranges. Never: a figure without its spread.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.targets import Quantity, Samples, Spread, Verdict, ratios, verdicts
from benchmarks.works import WORKS, Sample, Work

REFERENCES = (
    ("floor", ("floor-null", "floor-file")),
    ("DCMTK", ("dcmtk-fork", "dcmtk", "dcmtk-pair-nodelay")),
    ("pynetdicom", ("pynetdicom-file",)),
)
UPLOAD_REFERENCE = "pynetdicom-boto3"
QUANTITIES: dict[Quantity, tuple[str, float]] = {
    "rate": ("rate", 1),
    "cpu": ("CPU", 1),
    "cores": ("cores busy", 1),
    "rss_each": ("kB per association", 1e3),
    "rss_growth": ("RSS growth, MB", 1e6),
    "acknowledgement": ("answer's p50 / PUT's p50", 1),
}
"""What a quantity is called and by what its unit is divided."""


@dataclass(frozen=True)
class Run:
    """Everything that a report needs."""

    machine: Mapping[str, str | None]
    conditions: Mapping[str, str]
    samples: Samples
    failures: Sequence[str]


def number(value: float) -> str:
    """Three significant digits, no exponent."""
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def spread(of: Spread, divisor: float = 1) -> str:
    """`median (least-most)`."""
    return f"{number(of.median / divisor)} ({number(of.least / divisor)}-{number(of.most / divisor)})"


def row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [row(head), "|" + "---|" * len(head), *map(row, rows), ""]


def _ratio_cells(samples: Samples, work: Work, contender: str) -> list[str]:
    cells = []
    for _, names in REFERENCES:
        reference = next((name for name in names if name in samples[work.name]), None)
        if reference is None or reference == contender:
            cells.append("1" if reference == contender else "-")
        else:
            cells.append(spread(Spread.of(ratios(samples, work.name, "rate", contender, reference))))
    return cells


def _percentiles(p50_us: Sequence[float | None], p99_us: Sequence[float | None]) -> str:
    p50 = [value / 1e3 for value in p50_us if value is not None]
    p99 = [value / 1e3 for value in p99_us if value is not None]
    return f"{number(Spread.of(p50).median)} / {number(Spread.of(p99).median)}" if p50 and p99 else "-"


def _latency(samples: Sequence[Sample]) -> str:
    return _percentiles([sample.latency_p50_us for sample in samples], [sample.latency_p99_us for sample in samples])


def _memory_cells(samples: Sequence[Sample]) -> list[str]:
    most = [Spread.of([getattr(sample, name) for sample in samples]).most / 1e6 for name in ("peak_rss_bytes", "rss_growth_bytes")]
    return [number(value) for value in most]


def _upload_table(samples: Samples, work: Work) -> list[str]:
    """Of receivers that put into S3; with the latency of the PUT itself, and ratios to the one with boto3, else to the first."""
    rows = []
    reference = next((name for name in (UPLOAD_REFERENCE, *samples[work.name]) if name in samples[work.name]), "")
    quantities: tuple[Quantity, ...] = ("rate", "cpu")
    for name, found in samples[work.name].items():
        ratio = [sample.acknowledgement_ratio for sample in found if sample.acknowledgement_ratio is not None]
        rows.append(
            [
                CONTENDERS[name].label,
                spread(Spread.of([sample.mb_per_s if work.payload == "big" else sample.rate_per_s for sample in found])),
                spread(Spread.of([sample.cpu_ms for sample in found])),
                _latency(found),
                _percentiles([sample.put_p50_us for sample in found], [sample.put_p99_us for sample in found]),
                spread(Spread.of(ratio)) if ratio else "-",
                *_memory_cells(found),
                *(spread(Spread.of(ratios(samples, work.name, what, name, reference))) for what in quantities),
            ]
        )
    unit = "MB/s" if work.payload == "big" else "per second"
    head = ["receiver", unit, "CPU, ms each", "answer p50 / p99, ms", "PUT p50 / p99, ms", "answer / PUT", "peak RSS, MB", "RSS growth, MB"]
    to = CONTENDERS[reference].label if rows else ""
    return _table([*head, f"rate / {to}", f"CPU / {to}"], rows)


def _work_section(samples: Samples, work: Work) -> list[str]:
    measured = samples[work.name]
    lines = [f"### {work.title}", ""]
    if work.kind == "idle":
        rows = [
            [
                CONTENDERS[name].label,
                str(found[0].instances),
                spread(Spread.of([sample.cores_busy or 0 for sample in found])),
                spread(Spread.of([sample.rss_each_bytes or 0 for sample in found]), 1e3),
            ]
            for name, found in measured.items()
        ]
        return lines + _table(["receiver", "associations", "cores busy", "kB per association"], rows)
    if any(CONTENDERS[name].uploads for name in measured):
        return lines + _upload_table(samples, work)
    rows = []
    for name, found in measured.items():
        rate = Spread.of([sample.mb_per_s if work.payload == "big" else sample.rate_per_s for sample in found])
        rows.append(
            [
                CONTENDERS[name].label,
                spread(rate),
                spread(Spread.of([sample.cpu_ms for sample in found])),
                _latency(found),
                *_memory_cells(found),
                *_ratio_cells(samples, work, name),
            ]
        )
    unit = "MB/s" if work.payload == "big" else "per second"
    head = ["receiver", unit, "CPU, ms each", "latency p50 / p99, ms", "peak RSS, MB", "RSS growth, MB"]
    head += [f"x {name}" for name, _ in REFERENCES]
    return lines + _table(head, rows)


def _target_row(found: Verdict) -> list[str]:
    target = found.target
    name, divisor = QUANTITIES[target.quantity]
    sign = ">=" if target.more_is_better else "<="
    bounds = [f"{sign} {number(bound / divisor)}" if bound is not None else "-" for bound in (target.must, target.aim)]
    what = name if target.reference is None else f"{name} / {CONTENDERS[target.reference].label}"
    measured = spread(found.spread, divisor) if found.spread else "-"
    return [WORKS[target.work].title, what, *bounds, measured, found.verdict]


def markdown(run: Run) -> str:
    """Targets first, then every work, then where it was measured."""
    found = [verdict for verdict in verdicts(run.samples) if verdict.target.work in run.samples]
    lines = ["## Targets", "", "Medians of per-round ratios (least-most).", ""]
    lines += _table(["work", "quantity", "must", "aim", "measured", "verdict"], [_target_row(verdict) for verdict in found])
    lines += ["## Receivers", ""]
    for name in run.samples:
        lines += _work_section(run.samples, WORKS[name])
    if run.failures:
        lines += ["## Failed", "", *(f"- {failure}" for failure in run.failures), ""]
    lines += ["## Machine", ""]
    others = [sample.others_cores for receivers in run.samples.values() for found in receivers.values() for sample in found]
    rows = [[key, value or "-"] for key, value in {**run.machine, **run.conditions}.items()]
    if others:
        rows.append(["cores busy with something else, per sample", spread(Spread.of(others))])
    lines += _table(["", ""], rows)
    return "\n".join(lines)


def as_json(run: Run) -> str:
    """Every sample, so that nothing but this is needed to check the tables."""
    content: dict[str, Any] = {
        "machine": dict(run.machine),
        "conditions": dict(run.conditions),
        "failures": list(run.failures),
        "samples": {
            work: {name: [asdict(sample) for sample in found] for name, found in receivers.items()}
            for work, receivers in run.samples.items()
        },
        "targets": [
            {**asdict(found.target), "spread": asdict(found.spread) if found.spread else None, "verdict": found.verdict}
            for found in verdicts(run.samples)
        ],
    }
    return json.dumps(content, indent=1)
