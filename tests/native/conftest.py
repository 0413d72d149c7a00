"""Puts tests/ on the path, for the reference implementation. Enters and leaves: nothing. Never: a fixture that hides a step."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
