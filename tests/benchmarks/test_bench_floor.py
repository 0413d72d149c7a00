"""The floor counts and keeps what it was sent.

Enters: instances from the load source. Leaves: the floor's counts and files. Never: trusts the sender's figures alone.
"""

from pathlib import Path

from benchmarks import payloads
from benchmarks.load import PreparedLoad
from tests.benchmarks.peers import Floor, run_floor


def test_it_counts_without_keeping(prepared: PreparedLoad, floor: Floor) -> None:
    with prepared.open(floor.port, associations=3, instances_each=7) as run:
        run.run()
    assert floor.counts() == {"associations": 3, "instances": 21, "bytes": 21 * len(payloads.small().data_set)}


def test_its_files_are_the_data_sets(tmp_path: Path) -> None:
    payload = payloads.ct()
    store = tmp_path / "store"
    store.mkdir()
    load = PreparedLoad(payload, tmp_path)
    with run_floor(store) as floor:
        with load.open(floor.port, associations=2, instances_each=3) as run:
            run.run()
        assert floor.counts()["instances"] == 6
    files = sorted(store.iterdir())
    assert len(files) == 6
    at = payload.data_set_number_at
    for file in files:
        digits = file.name[-payloads.NUMBER_DIGITS :].encode()
        assert file.read_bytes() == payload.data_set[:at] + digits + payload.data_set[at + payloads.NUMBER_DIGITS :]


def test_it_accepts_many_contexts(tmp_path: Path, floor: Floor) -> None:
    load = PreparedLoad(payloads.small(), tmp_path, context_count=120)
    with load.open(floor.port, associations=3, instances_each=1, sequential=True) as run:
        run.run()
    assert floor.counts()["associations"] == 3
