"""How much memory and how many processors this process may use.

Enters: what the kernel says of control groups and of the machine. Leaves: a number of bytes, a number of processors.
Never: an error. Where nothing can be read, what the machine has is the limit.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Version and directory of the process' own control group, and of all groups around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            version, base = 2, root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            version, base = 1, root / "sys/fs/cgroup" / controller
        else:
            continue
        own = PurePosixPath(group.lstrip("/"))
        # In a container the path may be the host's, of which only the root can be seen.
        for path in (own, *own.parents, PurePosixPath()):
            yield version, base / path


def memory_limit_bytes(root: Path = Path("/")) -> int:
    """The least of the control groups' limits and the machine's memory."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for version, group in _groups(root, "memory"):
        try:
            # "max", and the largest number of pages that fits, mean none.
            limit = min(limit, int((group / ("memory.max" if version == 2 else "memory.limit_in_bytes")).read_text()))
        except (OSError, ValueError):
            continue
    return limit


def default_memory_budget_bytes() -> int:
    """Half of the limit, in whole MiB."""
    return max(memory_limit_bytes() // 2 // 2**20, 1) * 2**20


def processor_count(root: Path = Path("/")) -> int:
    """The processors that this process may use: at most as many as the control groups' quotas are worth, rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for version, group in _groups(root, "cpu"):
        try:
            if version == 2:
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            # "max" and -1 mean none.
            if int(quota) > 0:
                count = min(count, -(-int(quota) // int(period)))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return max(count, 1)
