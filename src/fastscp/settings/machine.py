"""How much memory this process may use.

Enters: what the kernel says of control groups and of the machine. Leaves: a number of bytes.
Never: an error. Where nothing can be read, the machine's memory is the limit.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def _limit_files(root: Path) -> Iterator[Path]:
    """The files that may hold a limit: of the process' own group and of all groups around it, version 2 and 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        own = PurePosixPath(group.lstrip("/"))
        # In a container the path may be the host's, of which only the root can be seen.
        for path in (own, *own.parents, PurePosixPath()):
            yield base / path / name


def memory_limit_bytes(root: Path = Path("/")) -> int:
    """The least of the control groups' limits and the machine's memory."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _limit_files(root):
        try:
            # "max", and the largest number of pages that fits, mean none.
            limit = min(limit, int(path.read_text()))
        except (OSError, ValueError):
            continue
    return limit


def default_memory_budget_bytes() -> int:
    """Half of the limit, in whole MiB."""
    return max(memory_limit_bytes() // 2 // 2**20, 1) * 2**20
