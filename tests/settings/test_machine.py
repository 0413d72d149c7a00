"""The memory limit, from files laid out as kernels and container engines do."""

import os
from pathlib import Path

import pytest

from fastscp.settings import machine

RAM = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
MIB = 2**20


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, RAM, id="nothing to read"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{64 * MIB}\n"}, 64 * MIB, id="v2, own namespace"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, RAM, id="v2, no limit"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": f"{32 * MIB}\n",
                "sys/fs/cgroup/a/b/memory.max": f"{64 * MIB}\n",
            },
            32 * MIB,
            id="v2, the group around is smaller",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/x\n0::/\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": f"{48 * MIB}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            48 * MIB,
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/0123\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{16 * MIB}\n",
            },
            16 * MIB,
            id="v1, the host's path",
        ),
        pytest.param(
            {"proc/self/cgroup": "4:memory:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n"},
            RAM,
            id="v1, none",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/memory.max": f"{8 * MIB}\n"}, 8 * MIB, id="v2, outside the namespace"
        ),
        pytest.param({"proc/self/cgroup": "nonsense\n"}, RAM, id="not understood"),
    ],
)
def test_limit(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert machine.memory_limit_bytes(lay_out(tmp_path, files)) == expected


def test_the_default_budget_is_half_of_the_limit() -> None:
    budget = machine.default_memory_budget_bytes()
    assert budget % MIB == 0
    assert 0 <= machine.memory_limit_bytes() // 2 - budget < MIB


@pytest.mark.parametrize(
    ("files", "most"),
    [
        pytest.param({}, 1000, id="nothing to read"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 1000, id="v2, no quota"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1, id="v2, one"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "25000 100000\n"}, 1, id="v2, a quarter"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2, id="v2, one and a half"),
        pytest.param(
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"},
            1,
            id="v2, the group around",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            1,
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            1000,
            id="v1, no quota",
        ),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, 1000, id="not understood"),
    ],
)
def test_processors(tmp_path: Path, files: dict[str, str], most: int) -> None:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert machine.processor_count(lay_out(tmp_path, files)) == min(most, available or 1)
