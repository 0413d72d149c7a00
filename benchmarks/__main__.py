"""`python -m benchmarks`: all works, all installed receivers, interleaved in rounds.

Enters: which works and how many rounds. Leaves: a report as Markdown and JSON. Never: exit code 0 where a run failed.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import machine, report
from benchmarks.contenders import CONTENDERS, ContenderFailed, running
from benchmarks.load import LoadFailed
from benchmarks.native_tools import CACHE
from benchmarks.reservoir import Reservoir, short_page_lists
from benchmarks.works import GROUPS, WORKS, Bench, Sample, Work

ROUNDS = 5
TARGET_S = 3.0
QUICK_TARGET_S = 0.3
TMPFS = Path("/dev/shm")
Measured = dict[str, dict[str, list[Sample]]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure fastscp beside its peers.")
    parser.add_argument("--works", default=",".join(WORKS), help=f"comma-separated, {' or '.join(GROUPS)} or of: %(default)s")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="comma-separated, of: %(default)s")
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="measure fastscp also with this environment variable, for instance FASTSCP_MAX_PDU=16384; may be repeated",
    )
    parser.add_argument("--rounds", type=int, help=f"how often each receiver is measured ({ROUNDS}; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast it is")
    parser.add_argument("--output", type=Path, default=CACHE / "report", help="the report without its suffix (%(default)s)")
    arguments = parser.parse_args()
    for group, members in GROUPS.items():
        arguments.works = ",".join(name if name != group else ",".join(members) for name in arguments.works.split(","))
    for names, known in ((arguments.works, WORKS), (arguments.contenders, CONTENDERS)):
        unknown = set(names.split(",")) - set(known)
        if unknown:
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return arguments


def add_beside(setting: str, works: list[Work], chosen: list[str]) -> tuple[list[Work], list[str]]:
    """The works and chosen receivers, and each chosen fastscp once more, with an environment variable `NAME=VALUE`."""
    variable, _, value = setting.partition("=")
    again: dict[str, str] = {}
    for name in chosen:
        contender = CONTENDERS[name]
        if name.startswith("fastscp-") and "," not in name:
            again[name] = f"{name},{setting}"
            label = f"{contender.label}, {setting}"
            environment = {**contender.environment, variable: value}
            CONTENDERS[again[name]] = replace(contender, name=again[name], label=label, environment=environment)
    added = [replace(work, contenders=(*work.contenders, *(again[name] for name in work.contenders if name in again))) for work in works]
    return added, [*chosen, *again.values()]


def _measure(bench: Bench, work: Work, name: str, directory: Path) -> Sample:
    # The value of `--beside` is part of the name and may be a path.
    with running(CONTENDERS[name], Path(tempfile.mkdtemp(prefix=f"{name.replace('/', '_')}-", dir=directory)) / "place") as receiver:
        return bench.measure(work, receiver)


def _line(sample: Sample) -> str:
    if sample.cores_busy is not None:
        return f"{sample.instances} associations  {sample.cores_busy:.4f} cores  {(sample.rss_each_bytes or 0) / 1e3:.0f} kB each"
    uploaded = f"  PUT {sample.put_p50_us / 1e3:.1f} ms, answer x {sample.acknowledgement_ratio:.2f}" if sample.put_p50_us else ""
    figures = f"{sample.rate_per_s:9.1f}/s  {sample.cpu_ms:8.3f} ms  {sample.peak_rss_bytes / 1e6:6.0f} MB"
    return f"{figures}  others {sample.others_cores:.2f}{uploaded}"


def _run(works: list[Work], chosen: list[str], rounds: int, bench: Bench, directory: Path) -> tuple[Measured, list[str]]:
    samples: Measured = {
        work.name: {name: [] for name in work.contenders if name in chosen and CONTENDERS[name].installed()} for work in works
    }
    failures: list[str] = []
    for round_number in range(rounds):
        for work in works:
            if work.rounds is not None and round_number >= work.rounds:
                continue
            names = list(samples[work.name])
            # Each round begins with another receiver, so that none is always the one after the slowest.
            offset = round_number % len(names) if names else 0
            for name in names[offset:] + names[:offset]:
                try:
                    sample = _measure(bench, work, name, directory)
                except (LoadFailed, ContenderFailed) as problem:
                    # Its other samples go too: a receiver that loses instances has no rate.
                    del samples[work.name][name]
                    failures.append(f"{work.name}, {name}, round {round_number + 1}: {problem}")
                    print(f"FAILED {failures[-1]}", file=sys.stderr, flush=True)
                    continue
                samples[work.name][name].append(sample)
                print(f"round {round_number + 1}/{rounds}  {work.name:17} {name:22} {_line(sample)}", file=sys.stderr, flush=True)
    return samples, failures


def main() -> int:
    """Returns the exit code: 1 where anything failed."""
    arguments = _arguments()
    # An exception, so that the receiver under way is stopped and what it stored is deleted.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    works, chosen = [WORKS[name] for name in arguments.works.split(",")], arguments.contenders.split(",")
    for setting in arguments.beside:
        works, chosen = add_beside(setting, works, chosen)
    rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    target_s = QUICK_TARGET_S if arguments.quick else TARGET_S
    directory = Path(tempfile.mkdtemp(prefix="fastscp-bench-", dir=TMPFS if TMPFS.is_dir() else None))
    load_before = machine.load_average()
    try:
        with Reservoir(directory) as reservoir, short_page_lists() as short:
            samples, failures = _run(works, chosen, rounds, Bench(directory, target_s, reservoir), directory)
    finally:
        shutil.rmtree(directory)
    conditions = {
        "rounds": str(rounds),
        "load per sample": f"about {target_s} s",
        "free pages that each processor keeps": "few" if short else "as many as Linux likes",
        "stored on": "tmpfs" if TMPFS.is_dir() else "the temporary directory",
        "load average before / after": f"{load_before} / {machine.load_average()}",
    }
    run = report.Run(machine.facts(), conditions, samples, failures)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(report.as_json(run))
    arguments.output.with_suffix(".md").write_text(report.markdown(run))
    print(report.markdown(run))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
