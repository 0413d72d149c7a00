"""What a process and all its descendants used, read from /proc.

Enters: a process id. Leaves: CPU seconds and memory of its tree. Never: touches the processes beyond resetting their peak.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Of a process tree: user + system time, that of ended and reaped descendants included; memory summed over living processes."""

    cpu_s: float
    rss_bytes: int
    peak_rss_bytes: int


def _stat_fields(pid: int) -> list[str]:
    # The command name, field 2, may contain spaces and parentheses.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """`root` and its living descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat_fields(int(entry.name))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    members, frontier = [root], [root]
    while frontier:
        frontier = [pid for pid, parent in parents.items() if parent in frontier]
        members += frontier
    return members


def usage(root: int) -> Usage:
    """Raises FileNotFoundError where `root` is gone."""
    ticks = rss_kib = peak_kib = 0
    for pid in tree(root):
        try:
            # utime, stime, cutime, cstime: fields 14 to 17 of proc(5), of which two come before the list that is split here.
            ticks += sum(int(field) for field in _stat_fields(pid)[11:15])
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            if pid == root:
                raise
            continue
        sizes = dict(line.split(":", 1) for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM")))
        if sizes:
            rss_kib += int(sizes["VmRSS"].split()[0])
            peak_kib += int(sizes["VmHWM"].split()[0])
    return Usage(cpu_s=ticks / TICKS_PER_S, rss_bytes=rss_kib * 1024, peak_rss_bytes=peak_kib * 1024)


def machine_busy_s() -> float:
    """CPU seconds of all processes since the machine started; time in interrupts, which belongs to nobody, is not included."""
    user, nice, system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / TICKS_PER_S


def reset_peak_rss(root: int) -> None:
    """From here on `peak_rss_bytes` counts anew (proc(5), clear_refs)."""
    for pid in tree(root):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
