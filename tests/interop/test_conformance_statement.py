"""The conformance statement and the receiver say the same.

Enters: docs/conformance.md. Leaves: proof that its names exist. Never: a statement whose test was renamed away.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp

ROOT = Path(__file__).parents[2]
STATEMENT = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


def test_every_test_that_the_statement_names_exists() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", STATEMENT))
    assert len(named) > 30
    assert named <= set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))


def test_the_names_that_the_statement_gives(receiver: FastScp) -> None:
    with RawScu(receiver.port) as scu:
        accepted = scu.associate()
        scu.release()
    assert f"| {accepted.implementation_class_uid} |" in STATEMENT
    assert f"| {accepted.implementation_version_name} |" in STATEMENT
    assert f"| {accepted.max_pdu_bytes} " in STATEMENT


def test_every_option_that_the_statement_names_exists() -> None:
    from fastscp.settings import OPTIONS

    known = {option.flag for option in OPTIONS.values()}
    assert set(re.findall(r"`(--[a-z-]+)", STATEMENT)) <= known
