"""Each part of the batches by itself: names, lease, membership, the documents, the sweep rule."""

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastscp.batches import Arrival, Keeper, Keys, Limits, Listed
from fastscp.batches.closing import manifest_from_listing, manifest_of, marker_of
from fastscp.batches.ids import is_batch_id, new_batch_id
from fastscp.batches.lease import Lease
from fastscp.batches.manifest import CloseReason, Entry, Manifest, decode_manifest, encode_manifest, manifest_schema
from fastscp.batches.marker import Marker, decode_marker, encode_marker
from fastscp.batches.membership import Batch
from fastscp.batches.sweep import CLOCK_SKEW_S, sweep_action
from fastscp.batches.times import printable, seconds, utc

KEYS = Keys("/hospital/")
BATCH_ID = "00112233445566aa-019abcdef012"
NOW_S = 1_800_000_000.0
CRC = "AAAAAAAAAAA="
DOCS = Path(__file__).parents[2] / "docs"


def arrival(instance: int = 1, series: str = "1.2.1", **changes: str) -> Arrival:
    return Arrival("1.2", series, f"1.2.1.{instance}", "20260101", "MODALITY", "FASTSCP", "association-1")._replace(**changes)


def batch(**limits: float) -> Batch:
    chosen = Limits(**limits)  # type: ignore[arg-type]
    lease = Lease(chosen.lease_s, chosen.renew_s, chosen.retry_s)
    return Batch(batch_id=BATCH_ID, study_instance_uid="1.2", opened_at_s=NOW_S, lease=lease, limits=chosen)


def key(what: Arrival) -> str:
    return KEYS.instance(BATCH_ID, *what[:3])


def reserve(into: Batch, what: Arrival, size_bytes: int, now_s: float = NOW_S) -> CloseReason | None:
    reason = into.why_not(what, key(what), size_bytes, now_s)
    if reason is None:
        into.reserve(what, size_bytes, now_s)
    return reason


def commit(into: Batch, what: Arrival, size_bytes: int, now_s: float = NOW_S) -> None:
    into.commit(Entry(sop_instance_uid=what.sop_instance_uid, key=key(what), size=size_bytes, crc64nvme=CRC), now_s)


class TestNames:
    def test_an_id_begins_with_entropy_and_sorts_by_time_after_it(self) -> None:
        source = random.Random(1)
        ids = [new_batch_id(source.randbytes, NOW_S + at_s) for at_s in range(100)]
        assert all(map(is_batch_id, ids))
        assert [batch_id[17:] for batch_id in ids] == sorted({batch_id[17:] for batch_id in ids})
        assert len({batch_id[:2] for batch_id in ids}) > 50

    @pytest.mark.parametrize("text", ["", BATCH_ID + "\n", BATCH_ID.upper(), BATCH_ID[1:], f"../{BATCH_ID}", BATCH_ID.replace("-", "/")])
    def test_what_is_no_id(self, text: str) -> None:
        assert is_batch_id(BATCH_ID)
        assert not is_batch_id(text)

    @pytest.mark.parametrize(("prefix", "root"), [("", ""), ("/", ""), ("a/b", "a/b/"), ("/a/b/", "a/b/")])
    def test_keys(self, prefix: str, root: str) -> None:
        keys = Keys(prefix)
        assert keys.instance(BATCH_ID, "1", "2", "3") == f"{root}instances/{BATCH_ID}/1/2/3.dcm"
        assert keys.instances(BATCH_ID) == f"{root}instances/{BATCH_ID}/"
        assert keys.marker(BATCH_ID) == f"{root}open/{BATCH_ID}.json"
        assert keys.manifest(BATCH_ID) == f"{root}batches/{BATCH_ID}.json"
        assert (keys.open, keys.batches) == (f"{root}open/", f"{root}batches/")
        assert (keys.quarantine, keys.inbox) == (f"{root}quarantine/", f"{root}inbox/")

    def test_a_key_says_again_what_it_was_made_of(self) -> None:
        assert KEYS.uids(BATCH_ID, KEYS.instance(BATCH_ID, "1", "2", "3")) == ("1", "2", "3")
        assert KEYS.batch_of_marker(KEYS.marker(BATCH_ID)) == BATCH_ID
        assert KEYS.batch_of_manifest(KEYS.manifest(BATCH_ID)) == BATCH_ID

    @pytest.mark.parametrize("name", ["1/2/3", "1/2.dcm", "1/2/3/4.dcm", "1//3.dcm", "1/../3.dcm", "1/2/x.dcm", "1/2/3.dcm\n", ".dcm", ""])
    def test_a_key_of_something_else_says_nothing(self, name: str) -> None:
        assert KEYS.uids(BATCH_ID, KEYS.instances(BATCH_ID) + name) is None
        assert KEYS.batch_of_marker(KEYS.open + name) is None
        assert KEYS.batch_of_manifest(KEYS.marker(BATCH_ID)) is None

    @given(st.text(max_size=20) | st.text(st.characters(codec=None, categories=["Cs", "Cc"]), max_size=20))
    def test_an_ae_title_is_printable_and_distinct(self, title: str) -> None:
        shown = printable(title)
        assert shown.isascii()
        assert shown.isprintable()
        msgspec.json.encode(shown)
        assert shown.encode().decode("unicode_escape").encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") == title[
            :16
        ].encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


class TestLease:
    def lease(self) -> Lease:
        return Lease(duration_s=120, renew_s=30, retry_s=5)

    def test_it_counts_from_before_the_write(self) -> None:
        lease = self.lease()
        assert not lease.settled
        assert not lease.holds(NOW_S)
        assert not lease.lost(NOW_S)
        lease.written(NOW_S, NOW_S + 50)
        assert lease.holds(NOW_S + 119.9)
        assert lease.lost(NOW_S + 120)

    def test_a_renewal_that_is_known_after_the_expiry_is_none(self) -> None:
        lease = self.lease()
        lease.written(NOW_S, NOW_S + 1)
        lease.written(NOW_S + 110, NOW_S + 121)
        assert lease.lost(NOW_S + 121)

    def test_a_first_write_that_fails_or_is_known_too_late_loses_it(self) -> None:
        failed, late = self.lease(), self.lease()
        failed.failed(NOW_S)
        late.written(NOW_S, NOW_S + 120)
        assert failed.lost(NOW_S)
        assert late.lost(NOW_S)

    def test_a_clock_that_is_set_back_does_not_bring_it_back(self) -> None:
        lease = self.lease()
        lease.written(NOW_S, NOW_S)
        assert not lease.holds(NOW_S + 120)
        assert not lease.holds(NOW_S)

    def test_when_it_is_due(self) -> None:
        lease = self.lease()
        assert not lease.due(NOW_S + 1000)
        lease.written(NOW_S, NOW_S + 2)
        assert not lease.due(NOW_S + 29)
        assert lease.due(NOW_S + 30)
        lease.failed(NOW_S + 30)
        assert not lease.due(NOW_S + 34)
        assert lease.due(NOW_S + 35)
        assert not lease.due(NOW_S + 120)


class TestMembership:
    def test_count_and_bytes_are_reserved_before_the_put(self) -> None:
        by_count, by_bytes = batch(instances=2), batch(size_bytes=100)
        assert [reserve(by_count, arrival(instance), 1) for instance in range(3)] == [None, None, "count"]
        assert [reserve(by_bytes, arrival(instance), 50) for instance in range(3)] == [None, None, "bytes"]

    def test_one_instance_may_be_larger_than_a_batch(self) -> None:
        assert reserve(batch(size_bytes=100), arrival(), 101) is None

    def test_what_certainly_failed_is_given_back(self) -> None:
        one = batch(instances=1, size_bytes=100)
        for _ in range(3):
            assert reserve(one, arrival(1), 100) is None
            one.fail(arrival(1).sop_instance_uid, may_have_landed=False, now_s=NOW_S)
        assert reserve(one, arrival(2), 100) is None

    def test_what_may_be_there_all_the_same_keeps_its_place_and_its_key(self) -> None:
        one = batch(instances=1)
        reserve(one, arrival(1), 1)
        one.fail(arrival(1).sop_instance_uid, may_have_landed=True, now_s=NOW_S)
        assert reserve(one, arrival(2), 1) == "count"
        assert reserve(one, arrival(1), 1) == "repeat"
        assert not one.entries

    def test_the_same_instance_again_is_one_entry_with_the_last_content(self) -> None:
        one = batch(instances=2, size_bytes=100)
        for size_bytes in (60, 30):
            assert reserve(one, arrival(1), min(size_bytes, 40)) is None
            commit(one, arrival(1), size_bytes)
        assert [entry.size for entry in one.entries.values()] == [30]
        assert reserve(one, arrival(2), 70) is None
        assert reserve(one, arrival(3), 0) == "count"

    def test_an_overwrite_that_may_have_landed_leaves_neither_size_nor_checksum(self) -> None:
        one = batch()
        reserve(one, arrival(1), 10)
        commit(one, arrival(1), 10)
        reserve(one, arrival(1), 20)
        one.fail(arrival(1).sop_instance_uid, may_have_landed=True, now_s=NOW_S)
        assert [(entry.size, entry.crc64nvme) for entry in one.entries.values()] == [(None, None)]
        assert reserve(one, arrival(1), 10) == "repeat"

    def test_one_instance_in_two_series_is_two_batches(self) -> None:
        one = batch()
        reserve(one, arrival(1), 10)
        commit(one, arrival(1), 10)
        assert reserve(one, arrival(1, series="1.2.2"), 10) == "repeat"

    def test_it_is_over_when_it_is_old_or_quiet_and_not_while_something_comes(self) -> None:
        one = batch(quiet_s=15, age_s=600)
        reserve(one, arrival(1), 1)
        assert one.overdue(NOW_S + 599) is None
        assert one.overdue(NOW_S + 600) == "age"
        commit(one, arrival(1), 1, NOW_S + 100)
        assert one.overdue(NOW_S + 114) is None
        assert one.overdue(NOW_S + 115) == "quiet"
        assert reserve(one, arrival(2), 1, NOW_S + 115) == "quiet"

    def test_it_learns_who_sends_and_of_which_day(self) -> None:
        one = batch()
        reserve(one, arrival(1, study_date="2026.1.1", calling_ae_title="A\n"), 1)
        reserve(one, arrival(2, study_date="20260102", association_id="association-2"), 1)
        reserve(one, arrival(3, study_date="20260103"), 1)
        marker = marker_of(one, "worker", NOW_S)
        assert marker.study_date == "20260102"
        assert marker.calling_ae_titles == ("A\\n", "MODALITY")
        assert marker.called_ae_titles == ("FASTSCP",)
        assert marker.association_ids == ("association-1", "association-2")


def closed() -> Manifest:
    one = batch()
    for instance, series in ((2, "1.2.2"), (1, "1.2.1"), (3, "1.2.1")):
        reserve(one, arrival(instance, series), 10 * instance)
        commit(one, arrival(instance, series), 10 * instance)
    one.close_reason = "quiet"
    return manifest_of(one, KEYS, "worker", NOW_S + 20.1239)


class TestDocuments:
    def test_the_manifest_is_what_the_documentation_shows(self) -> None:
        example = (DOCS / "batches.md").read_text().split("```json\n")[1].split("```")[0]
        assert json.loads(encode_manifest(closed())) == json.loads(example)

    def test_the_schema_is_the_one_in_the_documentation(self) -> None:
        assert json.loads((DOCS / "manifest.schema.json").read_text()) == manifest_schema()

    def test_one_manifest_has_one_form_and_is_read_again(self) -> None:
        data = encode_manifest(closed())
        assert encode_manifest(closed()) == data
        assert decode_manifest(KEYS, KEYS.manifest(BATCH_ID), data) == closed()

    def test_a_batch_that_is_open_has_none(self) -> None:
        with pytest.raises(ValueError, match="open"):
            manifest_of(batch(), KEYS, "worker", NOW_S)

    @pytest.mark.parametrize(
        "forge",
        [
            lambda document: document.update(version=2),
            lambda document: document.update(unknown=1),
            lambda document: document.pop("closedBy"),
            lambda document: document.update(batchId="0" * 16 + "-" + "0" * 12),
            lambda document: document.update(batchId="../" + BATCH_ID),
            lambda document: document.update(studyInstanceUID="1.3"),
            lambda document: document.update(closedAt="2026-01-01T00:00:00"),
            lambda document: document.update(instanceCount=2),
            lambda document: document.update(totalBytes=1),
            lambda document: document.update(seriesInstanceUIDs=["1.2.1"]),
            lambda document: document.update(instances=[], instanceCount=0),
            lambda document: document["instances"].append(document["instances"][0]),
            lambda document: document["instances"][0].update(key="hospital/instances/ffff/1.2/1.2.1/1.2.1.1.dcm"),
            lambda document: document["instances"][0].update(key=f"hospital/instances/{BATCH_ID}/1.2/../1.2.1.1.dcm"),
            lambda document: document["instances"][0].update(key=f"instances/{BATCH_ID}/1.2/1.2.1/1.2.1.1.dcm"),
            lambda document: document["instances"][0].update(sopInstanceUID="1.2.1.9"),
            lambda document: document["instances"][0].update(sopInstanceUID="1.2.1.1\n"),
            lambda document: document["instances"][0].update(size=-1),
            lambda document: document["instances"][0].update(crc64nvme="AAAAAAAAAA="),
        ],
    )
    def test_a_manifest_that_is_forged_or_foreign_is_refused(self, forge: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads(encode_manifest(closed()))
        forge(document)
        with pytest.raises(ValueError):
            decode_manifest(KEYS, KEYS.manifest(BATCH_ID), json.dumps(document).encode())

    @pytest.mark.parametrize("where", [KEYS.manifest("f" * 16 + "-" + "f" * 12), KEYS.marker(BATCH_ID), Keys("x").manifest(BATCH_ID), ""])
    def test_a_manifest_under_another_key_is_refused(self, where: str) -> None:
        with pytest.raises(ValueError, match="another key"):
            decode_manifest(KEYS, where, encode_manifest(closed()))

    @pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'"' * 3])
    def test_what_is_no_document_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            decode_manifest(KEYS, KEYS.manifest(BATCH_ID), data)
        with pytest.raises(ValueError):
            decode_marker(KEYS, KEYS.marker(BATCH_ID), data)

    def test_a_marker_is_read_again_and_belongs_to_its_key(self) -> None:
        one = batch()
        reserve(one, arrival(), 1)
        data = encode_marker(marker_of(one, "worker", NOW_S))
        marker = decode_marker(KEYS, KEYS.marker(BATCH_ID), data)
        assert marker == marker_of(one, "worker", NOW_S)
        assert seconds(marker.expires_at) == NOW_S + 120
        with pytest.raises(ValueError, match="another key"):
            decode_marker(KEYS, KEYS.manifest(BATCH_ID), data)
        with pytest.raises(ValueError, match="no key"):
            decode_marker(KEYS, KEYS.marker(BATCH_ID), data.replace(b'"studyInstanceUID":"1.2"', b'"studyInstanceUID":"1.2\\n"'))


class TestSweep:
    def marker(self, began_at_s: float = NOW_S) -> Marker:
        return marker_of(batch(lease_s=120, put_deadline_s=60), "worker", began_at_s)

    @pytest.mark.parametrize(
        ("has_manifest", "import_started", "after_s", "action"),
        [
            (True, True, 0, "delete_marker"),
            (True, False, 0, "start_import"),
            (True, False, 9999, "start_import"),
            (False, False, 0, "wait"),
            (False, False, 120 + 60 + CLOCK_SKEW_S - 0.1, "wait"),
            (False, False, 120 + 60 + CLOCK_SKEW_S, "close"),
            (False, True, 0, "wait"),
        ],
    )
    def test_the_rule(self, has_manifest: bool, import_started: bool, after_s: float, action: str) -> None:
        decided = sweep_action(self.marker(), NOW_S, has_manifest=has_manifest, import_started=import_started, now_s=NOW_S + after_s)
        assert decided == action

    @pytest.mark.parametrize(("began_at_s", "modified_s"), [(NOW_S, NOW_S - 100), (NOW_S - 100, NOW_S)])
    def test_the_later_of_the_two_times_counts(self, began_at_s: float, modified_s: float) -> None:
        def action(after_s: float) -> str:
            return sweep_action(self.marker(began_at_s), modified_s, has_manifest=False, import_started=False, now_s=NOW_S + after_s)

        assert action(180 + CLOCK_SKEW_S - 0.1) == "wait"
        assert action(180 + CLOCK_SKEW_S) == "close"

    def test_the_manifest_from_a_listing_has_what_is_named_like_an_instance_of_the_study(self) -> None:
        good = [KEYS.instance(BATCH_ID, "1.2", "1.2.1", f"1.2.1.{instance}") for instance in (1, 2)]
        other = [KEYS.instances(BATCH_ID) + "note.txt", KEYS.instance(BATCH_ID, "1.3", "1.2.1", "1.2.1.1")]
        manifest = manifest_from_listing(self.marker(), [Listed(name, 5, NOW_S) for name in good + other], KEYS, NOW_S)
        assert manifest is not None
        assert decode_manifest(KEYS, KEYS.manifest(BATCH_ID), encode_manifest(manifest)) == manifest
        assert [entry.key for entry in manifest.instances] == good
        assert (manifest.closed_by, manifest.close_reason, manifest.total_bytes) == ("sweeper", "lease", 10)
        assert manifest_from_listing(self.marker(), [Listed(name, 5, NOW_S) for name in other], KEYS, NOW_S) is None


def test_times_are_utc_in_whole_milliseconds() -> None:
    assert utc(NOW_S + 0.1239).isoformat() == "2027-01-15T08:00:00.123000+00:00"


def test_the_keeper_ticks_on_after_a_tick_that_fails() -> None:
    ticks: list[float] = []
    enough = threading.Event()

    class Failing:
        def tick(self, now_s: float) -> None:
            ticks.append(now_s)
            if len(ticks) == 3:
                enough.set()
            raise RuntimeError

    keeper = Keeper(Failing(), lambda: NOW_S, 0.001)  # type: ignore[arg-type]
    keeper.start()
    assert enough.wait(30)
    keeper.stop()
    assert not keeper.is_alive()
    assert set(ticks) == {NOW_S}
