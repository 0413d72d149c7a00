"""`python -m benchmarks.import_capacity`: how fast instances are imported within HealthImaging's quotas, batch mode against instance mode.

Enters: sizes of backlogs and hospitals. Leaves: a report as Markdown and JSON, and plots as SVG.
Never: a time of this machine, a figure without its model.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.capacity import plots, service
from benchmarks.capacity.durations import MODELS, Model, linear
from benchmarks.capacity.hospital import day
from benchmarks.capacity.instance_mode import imported_s
from benchmarks.capacity.workflow import CALL_S, EVENT_S, ClosedBatch, import_all

SEED = 20270115
PER_STUDY = 300
INSTANCE_BYTES = 525_000
BACKLOGS = (1_000, 100_000, 1_000_000)
STUDIES = (300, 1_000)
SWEPT_S = (45, 60, 90, 120, 150, 180, 210, 240, 300, 420, 600)
"""Durations of a job of 300 files, in the sweep."""
Numbers = dict[str, Any]


def batches_of(instances: int) -> list[ClosedBatch]:
    """A backlog: full studies, and what is left."""
    sizes = [PER_STUDY] * (instances // PER_STUDY) + ([instances % PER_STUDY] if instances % PER_STUDY else [])
    return [ClosedBatch(study, 0.0, size, size * INSTANCE_BYTES) for study, size in enumerate(sizes)]


def backlog(instances: int, model: Model) -> Numbers:
    """Time to the last import of what waits at t = 0, in both modes."""
    outcome = import_all(batches_of(instances), model.duration, SEED)
    batch_s = max(outcome.ended_s)
    instance_s = max(imported_s([0.0] * instances, model.duration))
    return {
        "model": model.name,
        "instances": instances,
        "batches": len(outcome.ended_s),
        "batch_s": batch_s,
        "instance_s": instance_s,
        "times_faster": instance_s / batch_s,
        "most_jobs_at_once": outcome.most_at_once,
        "refusals": outcome.refusals,
    }


def hospital(studies: int, model: Model) -> tuple[Numbers, dict[str, list[float]]]:
    """Lags of a day's instances from their acknowledgement to the end of their job: figures, and all of them sorted by mode."""
    instances, batches = day(studies, SEED)
    outcome = import_all(batches, model.duration, SEED)
    ended_s = imported_s([one.at_s + EVENT_S for one in instances], model.duration)
    lags = {
        "batch": sorted(outcome.ended_s[one.batch] - one.at_s for one in instances),
        "instance": sorted(ended - one.at_s for ended, one in zip(ended_s, instances, strict=True)),
    }
    figures = {
        "model": model.name,
        "studies": studies,
        "instances": len(instances),
        "batches": len(batches),
        "refusals": outcome.refusals,
        **{f"{mode}_p{percent}_s": percentile(found, percent) for mode, found in lags.items() for percent in (50, 99)},
    }
    return figures, lags


def percentile(ascending: Sequence[float], percent: int) -> float:
    """The value that this many in a hundred do not exceed (nearest rank)."""
    return ascending[max(math.ceil(len(ascending) * percent / 100), 1) - 1]


def duration(seconds: float) -> str:
    """A time for a person, with three significant digits."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds:.3g} s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]


def markdown(results: Numbers) -> str:
    """The report."""
    lines = ["# Import capacity", "", "On a virtual clock, nothing of it measured on AWS.", ""]
    lines += [f"- {model.name}: {model.description}" for model in MODELS]
    lines += ["", f"## Backlog, {PER_STUDY} instances for each study", ""]
    lines += _table(
        ["job duration", "instances", "batches", "batch mode", "instance mode", "times faster", "jobs at once", "refused"],
        [
            [
                one["model"],
                f"{one['instances']:,}",
                f"{one['batches']:,}",
                duration(one["batch_s"]),
                duration(one["instance_s"]),
                f"{one['times_faster']:.0f}",
                str(one["most_jobs_at_once"]),
                str(sum(one["refusals"].values())),
            ]
            for one in results["backlog"]
        ],
    )
    swept = results["sensitivity"]
    lines += [f"## {swept['instances']:,} instances, over the duration of a job of {PER_STUDY} files", ""]
    lines += _table(["seconds", "times faster"], [[seconds, f"{ratio:.0f}"] for seconds, ratio in swept["times_faster"].items()])
    lines += ["## A day, from acknowledgement to imported", ""]
    lines += _table(
        ["job duration", "studies", "instances", "batches", "batch p50", "batch p99", "instance p50", "instance p99", "refused"],
        [
            [
                one["model"],
                f"{one['studies']:,}",
                f"{one['instances']:,}",
                f"{one['batches']:,}",
                *(duration(one[f"{mode}_p{percent}_s"]) for mode in ("batch", "instance") for percent in (50, 99)),
                str(sum(one["refusals"].values())),
            ]
            for one in results["day"]
        ],
    )
    return "\n".join(lines)


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_capacity", description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=_numbers, default=list(BACKLOGS), help="sizes of the backlog, with commas")
    parser.add_argument("--studies", type=_numbers, default=list(STUDIES), help="studies that a hospital makes in a day, with commas")
    parser.add_argument("--swept-instances", type=int, default=100_000, help="size of the backlog in the sweep (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"), help="directory of the report (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    given = _arguments(arguments)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    results: Numbers = {
        "conditions": {
            "seed": SEED,
            "starts_per_s": service.STARTS_PER_S,
            "start_burst": service.START_BURST,
            "concurrent_jobs": service.CONCURRENT_JOBS,
            "files_per_job": service.FILES_PER_JOB,
            "bytes_per_job": service.BYTES_PER_JOB,
            "call_s": CALL_S,
            "event_s": EVENT_S,
        },
        "backlog": [],
        "day": [],
    }
    times: dict[str, dict[str, dict[int, float]]] = {model.name: {"batch": {}, "instance": {}} for model in MODELS}
    for instances in given.instances:
        for model in MODELS:
            found = backlog(instances, model)
            results["backlog"].append(found)
            for mode in ("batch", "instance"):
                times[model.name][mode][instances] = found[f"{mode}_s"]
            say(f"backlog {instances} {model.name}: {found['times_faster']:.1f} times faster")
    ratios = {}
    for seconds in SWEPT_S:
        per_file_s = (seconds - 30) / (PER_STUDY - 1)
        model = Model("swept", "", linear(30 - per_file_s, per_file_s))
        ratios[float(seconds)] = backlog(given.swept_instances, model)["times_faster"]
    results["sensitivity"] = {"instances": given.swept_instances, "times_faster": {f"{one:g}": ratio for one, ratio in ratios.items()}}
    lags = {}
    for studies in given.studies:
        for model in MODELS:
            figures, found_lags = hospital(studies, model)
            results["day"].append(figures)
            if model.name == "linear":
                lags[f"{studies:,} studies"] = found_lags
            say(f"day of {studies} studies, {model.name}: p99 {figures['batch_p99_s']:.0f} s against {figures['instance_p99_s']:.0f} s")
    given.output.mkdir(parents=True, exist_ok=True)
    plots.backlog(times, given.output / "import_capacity_backlog.svg")
    plots.sensitivity(ratios, given.swept_instances, given.output / "import_capacity_sensitivity.svg")
    plots.day(lags, given.output / "import_capacity_day.svg")
    (given.output / "import_capacity.json").write_text(json.dumps(results, indent=2) + "\n")
    (given.output / "import_capacity.md").write_text(markdown(results))
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
