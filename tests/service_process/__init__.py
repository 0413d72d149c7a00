"""The receiver as a process: start, drain, crash, full disk."""
