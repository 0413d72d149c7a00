"""A process tree's CPU time and memory are those of all its processes.

Enters: processes that know what they used. Leaves: what was read from outside. Never: a bound on how long anything takes.
"""

import subprocess
import sys

from benchmarks import processes

TICK_S = 1 / processes.TICKS_PER_S

PARENT_OF_ENDED_CHILD = """
import os, subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", burn], check=True)
times = os.times()
print(times.user + times.system + times.children_user + times.children_system, flush=True)
sys.stdin.readline()
"""

PARENT_OF_LIVING_CHILD = """
import subprocess, sys
hold = "import sys; held = bytearray(64_000_000); held[::4096] = held[1::4096]; print('held', flush=True); sys.stdin.readline()"
subprocess.run([sys.executable, "-c", hold], check=True)
"""


def start(script: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_cpu_time_includes_descendants_that_ended() -> None:
    with start(PARENT_OF_ENDED_CHILD) as process:
        assert process.stdout is not None
        own_s = float(process.stdout.readline())
        assert processes.machine_busy_s() > own_s - 5 * TICK_S
        measured_s = processes.usage(process.pid).cpu_s
        process.communicate("\n", timeout=60)
    assert own_s > 0.2
    assert abs(measured_s - own_s) <= 5 * TICK_S


def test_memory_includes_living_descendants_and_the_peak_can_be_reset() -> None:
    with start(PARENT_OF_LIVING_CHILD) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert len(processes.tree(process.pid)) == 2
        held = processes.usage(process.pid)
        assert held.rss_bytes > 64_000_000
        assert held.peak_rss_bytes >= held.rss_bytes
        processes.reset_peak_rss(process.pid)
        again = processes.usage(process.pid)
        assert 64_000_000 < again.peak_rss_bytes <= held.peak_rss_bytes
        process.communicate("\n", timeout=60)
