"""Looks for inputs on which the native code and its reference differ, or which the native code does not survive.

Enters: a time. Leaves: exit code 0 and nothing, or 1 and a file for each finding. Never: goes on after its time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from cases import TARGETS, Case, seeds  # noqa: E402
from worker import OWN_MISTAKE, SHARED_BYTES, Shared, problem_of, write_finding  # noqa: E402

from fastscp._ext import pdu  # noqa: E402

HANG_S = 60.0
CRASHES_CEILING = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to search (default: 60)")
    parser.add_argument("--seed", type=int, default=None, help="of the search (default: another each time)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this; may be repeated (default: all)")
    parser.add_argument("--findings", type=Path, default=HERE / "findings", help="where findings are written (default: fuzz/findings)")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="run one finding again, in this process")
    return parser.parse_args()


def reproduce(path: Path) -> int:
    problem, _ = problem_of(Case.from_json(path.read_text()))
    print(problem or "no problem any more")
    return 1 if problem else 0


def watched(command: list[str], shared: Shared, seconds: float) -> str | None:
    """Runs a worker to its end. Returns what it died of, None where it did not."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")]), "PYTHONHASHSEED": "0"}
    worker = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    executions, changed_at = 0, time.monotonic()
    deadline = changed_at + seconds + HANG_S
    errors = b""
    while True:
        try:
            _, errors = worker.communicate(timeout=1.0)
            break
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if shared.executions != executions:
                executions, changed_at = shared.executions, now
            elif now > changed_at + HANG_S or now > deadline:
                worker.kill()
                worker.communicate()
                return f"it does not come back ({HANG_S:.0f} s)"
    if worker.returncode == 0:
        return None
    if worker.returncode == OWN_MISTAKE:
        sys.stderr.write(errors.decode(errors="replace"))
        sys.exit(OWN_MISTAKE)
    return f"exit code {worker.returncode}\n{errors.decode(errors='replace')[-20000:]}"


def main() -> int:
    options = arguments()
    if options.reproduce:
        return reproduce(options.reproduce)
    options.findings.mkdir(exist_ok=True)
    before = set(options.findings.glob("*.json"))
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    targets = ",".join(options.target or TARGETS)
    print(f"{pdu.__file__}\nseed {seed}, {options.seconds:.0f} s, targets {targets}, {len(seeds())} seeds", flush=True)
    end = time.monotonic() + options.seconds
    crashes = 0
    with tempfile.NamedTemporaryFile() as shared_file:
        shared_file.truncate(SHARED_BYTES)
        shared = Shared(Path(shared_file.name))
        while (left := end - time.monotonic()) > 0 and crashes < CRASHES_CEILING:
            command = [
                sys.executable,
                str(HERE / "worker.py"),
                shared_file.name,
                str(options.findings),
                str(left),
                str(seed + crashes),
                targets,
            ]
            death = watched(command, shared, left)
            if death is None:
                break
            crashes += 1
            case = shared.case()
            if case is None:
                sys.exit(f"the worker did not start: {death}")
            write_finding(options.findings, case, death)
    found = sorted(set(options.findings.glob("*.json")) - before)
    for path in found:
        print(f"finding: {path}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
