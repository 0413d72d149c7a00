"""A store that runs full while instances arrive.

Enters: more than fits. Leaves: 0xA700 with a comment, and an association that goes on. Never: Success without the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp
from tests.service_process.filesystems import tmpfs

OUT_OF_RESOURCES = 0xA700


def test_a_full_disk_refuses_until_there_is_room_again(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", size_mib=8) as mounted, FastScp(mounted / "received") as server:
        with RawScu(server.port) as scu:
            scu.associate([Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION)])
            stored, answer = [], None
            for _ in range(20):
                made = make(pixel_bytes=1_000_000)
                answer = scu.store(made.sop_class, made.sop_instance, made.data_set)
                if answer.status != 0:
                    break
                stored.append(made)
            assert answer is not None
            assert answer.status == OUT_OF_RESOURCES
            assert 0 < len(answer.comment) <= 64
            assert 4 <= len(stored) <= 8
            assert not (server.store / made.relative_path).exists()
            assert not server.stray_files()
            assert scu.echo(3).status == 0

            spilling = make(pixel_bytes=40_000_000)
            answer = scu.store(spilling.sop_class, spilling.sop_instance, spilling.data_set, data_pdv_bytes=100_000)
            assert answer.status == OUT_OF_RESOURCES
            assert answer.comment
            assert not server.stray_files()

            (server.store / stored.pop().relative_path).unlink()
            assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            scu.release()
        for each in [*stored, made]:
            assert read_part10(server.store / each.relative_path).data_set == each.data_set
        assert server.metrics()['fastscp_instances_total{status="A700"}'] == 2
        assert server.stop() == 0


def test_a_full_disk_is_a_reason_not_to_be_ready_and_none_to_be_dead(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", size_mib=8) as mounted, FastScp(mounted / "received") as server:
        filler = mounted / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(16 << 20))
        status, body = server.get("/readyz")
        assert (status, json.loads(body)) == (503, {"ready": False, "reasons": {"disk": "nearly full"}})
        assert server.get("/livez")[0] == 200
        filler.unlink()
        assert server.get("/readyz")[0] == 200
        assert server.stop() == 0
