"""The receiver as a process: listening, running, draining.

Enters: the settings. Leaves: an exit code. Never: an acknowledged instance left behind.
"""

from fastscp.service.run import run

__all__ = ["run"]
