"""Memory is given back as others take it.

Enters: sizes, and files beside. Leaves: a file that shrinks. Never: more than the margin and some 100 MB.
"""

from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks import reservoir as module
from benchmarks.reservoir import BLOCK_BYTES, SHORT_PAGE_LISTS, Reservoir, short_page_lists
from tests.peers.server import wait_until

MIB = 1 << 20
SHARED_MEMORY = Path("/dev/shm")


@pytest.mark.requires_linux
def test_what_others_take_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARGIN_BYTES", 8 * MIB)
    used_bytes = 0
    monkeypatch.setattr(Reservoir, "_used_bytes", lambda self: used_bytes + self._size_bytes())
    file = tmp_path / "reservoir"
    with Reservoir(tmp_path) as reservoir:
        reservoir.fill(32 * MIB - 1)
        assert file.stat().st_size == 40 * MIB
        assert file.stat().st_blocks * 512 >= 40 * MIB
        with reservoir.feeding():
            wait_until(lambda: file.stat().st_size == 32 * MIB, "the margin is free")
            used_bytes = 5 * MIB
            wait_until(lambda: file.stat().st_size == 27 * MIB, "what was taken is given back")
            used_bytes = 3 * MIB
            used_bytes = 32 * MIB
            wait_until(lambda: file.stat().st_size == 0, "all is given back")
        reservoir.fill(MIB)
        assert file.stat().st_size == 9 * MIB
        reservoir.fill(0)
        assert file.stat().st_size == 8 * MIB
    assert not file.exists()


@pytest.mark.requires_linux
def test_what_is_used_is_what_the_file_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARGIN_BYTES", 0)
    with Reservoir(SHARED_MEMORY) as reservoir:
        before_bytes = reservoir._used_bytes()
        reservoir.fill(64 * BLOCK_BYTES)
        assert reservoir._used_bytes() - before_bytes >= 32 * BLOCK_BYTES


def test_the_page_lists_are_short_for_a_while(tmp_path: Path) -> None:
    setting = tmp_path / "percpu_pagelist_high_fraction"
    setting.write_text("0\n")
    with suppress(KeyboardInterrupt), short_page_lists(setting) as short:
        assert short
        assert setting.read_text() == SHORT_PAGE_LISTS
        raise KeyboardInterrupt
    assert setting.read_text() == "0\n"


def test_page_lists_that_may_not_be_set_are_left(tmp_path: Path) -> None:
    with short_page_lists(tmp_path / "none") as short:
        assert not short
