"""Where DCMTK's programs are. pynetdicom installs programs with the same names, so the path alone does not tell.

Enters: a program's name. Leaves: DCMTK's program of that name. Never: pynetdicom's.
"""

from __future__ import annotations

import shutil
from pathlib import Path


def dcmtk(program: str) -> str:
    """Path of a DCMTK program: it stands beside dcmdump, which nobody else has."""
    dcmdump = shutil.which("dcmdump")
    assert dcmdump is not None, "DCMTK is not installed: the test needs the mark requires_dcmtk"
    return str(Path(dcmdump).with_name(program))
