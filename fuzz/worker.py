"""The search itself, in a process that may die of what it finds.

Enters: seeds. Leaves: one file per finding, and in shared memory the case that runs right now. Never: goes on for longer than it was told.
"""

from __future__ import annotations

import json
import mmap
import random
import struct
import sys
import time
import traceback
from pathlib import Path

import mutate
from cases import TARGETS, Case, Disagreement, ask, check, seeds, syntax_of
from lines import Edge, edges

SHARED_BYTES = 2 * mutate.CEILING_BYTES + 4096
HEADER = struct.Struct("<QQ")
CORPUS_CEILING = 3000
FINDINGS_CEILING = 10
KEPT_SEEDS = 10
OWN_MISTAKE = 70  # exit code
WEIGHTS = {"reader": 8, "head": 3, "command": 1}


class Shared:
    """A file that both processes have mapped: number of executions, and the case that runs."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), SHARED_BYTES)

    def write(self, executions: int, case: Case) -> None:
        text = case.to_json().encode()
        self.memory[HEADER.size : HEADER.size + len(text)] = text
        HEADER.pack_into(self.memory, 0, executions, len(text))

    @property
    def executions(self) -> int:
        return int(HEADER.unpack_from(self.memory, 0)[0])

    def case(self) -> Case | None:
        """Only once the worker has ended: it may be writing."""
        _, length = HEADER.unpack_from(self.memory, 0)
        return Case.from_json(self.memory[HEADER.size : HEADER.size + length].decode()) if length else None


def problem_of(case: Case) -> tuple[str | None, set[Edge]]:
    """What is wrong with a case, None where nothing is; and the ways it took through the reference."""
    expected, taken = edges(lambda: ask(case))
    try:
        check(case, expected)
    except Disagreement as disagreement:
        return str(disagreement), taken
    except Exception:
        return traceback.format_exc(), taken
    return None, taken


def smaller(case: Case, deadline: float) -> Case:
    """The case with all bytes taken out that it does not need to be wrong."""
    size = len(case.data) // 2
    while size:
        at = 0
        while at < len(case.data) and time.monotonic() < deadline:
            shorter = Case(case.target, case.decisions, case.data[:at] + case.data[at + size :])
            if problem_of(shorter)[0] is None:
                at += size
            else:
                case = shorter
        size //= 2
    return case


def write_finding(folder: Path, case: Case, problem: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{case.name}.json").write_text(
        json.dumps(json.loads(case.to_json()) | {"hex": case.data.hex(), "problem": problem}, indent=1)
    )


def search(shared: Shared, folder: Path, seconds: float, seed: int, targets: list[str]) -> None:
    chance = random.Random(seed)
    corpus: dict[str, list[Case]] = {target: [] for target in TARGETS}
    known: dict[str, set[Edge]] = {target: set() for target in TARGETS}
    reported: set[str] = set()
    fresh = [case for case in seeds() if case.target in targets]
    end = time.monotonic() + seconds
    executions = 0
    while time.monotonic() < end and len(reported) < FINDINGS_CEILING:
        case = fresh.pop() if fresh else mutated(chance, corpus, targets)
        executions += 1
        shared.write(executions, case)
        problem, taken = problem_of(case)
        if problem is not None and problem[:60] not in reported:
            reported.add(problem[:60])
            case = smaller(case, min(end, time.monotonic() + 20) + 1)
            write_finding(folder, case, problem_of(case)[0] or problem)
        if taken - known[case.target]:
            known[case.target] |= taken
            corpus[case.target].append(case)
            if len(corpus[case.target]) > CORPUS_CEILING:
                del corpus[case.target][chance.randrange(KEPT_SEEDS, CORPUS_CEILING)]
    for target in targets:
        print(f"{target}: {len(corpus[target])} inputs kept for {len(known[target])} ways through the reference")
    print(f"{executions} executions, {len(reported)} findings", flush=True)


def mutated(chance: random.Random, corpus: dict[str, list[Case]], targets: list[str]) -> Case:
    (target,) = chance.choices(targets, [WEIGHTS[target] for target in targets])
    kept = corpus[target]
    base = chance.choice(kept[: KEPT_SEEDS if chance.random() < 0.3 else None])
    # Another syntax for the same bytes is a change in itself, and rarely a good one.
    decisions = base.decisions if chance.random() < 0.3 else base.decisions % 3 + 3 * chance.getrandbits(32)
    if chance.random() < 0.03:
        decisions = chance.getrandbits(32)
    data = mutate.mutated(chance, target, base.data, chance.choice(kept).data, syntax_of(base))
    return Case(target, decisions, data)


if __name__ == "__main__":
    shared_path, folder_path, seconds_text, seed_text, targets_text = sys.argv[1:]
    try:
        search(Shared(Path(shared_path)), Path(folder_path), float(seconds_text), int(seed_text), targets_text.split(","))
    except Exception:
        # A mistake of the search is no finding.
        traceback.print_exc()
        sys.exit(OWN_MISTAKE)
