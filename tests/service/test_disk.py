"""Room on the file system of the store, as /readyz tells it."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastscp.service.disk import disk_reasons
from fastscp.settings import StoreTarget


@pytest.mark.parametrize(
    ("free_bytes", "size_bytes", "has_room"),
    [
        (80_000, 8 << 20, False),
        (90_000, 8 << 20, True),
        (0, 8 << 20, False),
        ((1 << 30) - 4096, 10 << 40, False),
        (1 << 30, 10 << 40, True),
    ],
)
def test_room(monkeypatch: pytest.MonkeyPatch, free_bytes: int, size_bytes: int, has_room: bool) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free_bytes, f_blocks=size_bytes, f_frsize=1))
    assert disk_reasons(StoreTarget("file", "/data")) == ({} if has_room else {"disk": "nearly full"})


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    assert disk_reasons(StoreTarget("file", str(tmp_path / "gone")))["disk"].startswith("cannot be asked: ")


@pytest.mark.parametrize("target", [StoreTarget("null", ""), StoreTarget("s3", "prefix", "bucket")])
def test_other_stores_have_no_disk(target: StoreTarget) -> None:
    assert disk_reasons(target) == {}
