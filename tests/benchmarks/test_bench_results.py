"""Ratios, verdicts and the report are right, and what failed has no figures.

Enters: made-up samples. Leaves: what is concluded from them. Never: a measurement.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks import __main__ as program
from benchmarks import payloads, report
from benchmarks.contenders import CONTENDERS, Place, Running
from benchmarks.load import LoadFailed
from benchmarks.targets import TARGETS, Spread, Target, Verdict, ratios, verdicts
from benchmarks.works import GROUPS, WORKS, Bench, Sample, Work

BASE = Sample(
    rate_per_s=100, mb_per_s=50, cpu_ms=1, instances=10, seconds=1, peak_rss_bytes=10_000_000, rss_growth_bytes=1_000_000, others_cores=0.0
)


def rates(*values: float) -> list[Sample]:
    return [replace(BASE, rate_per_s=value) for value in values]


def test_ratios_are_taken_within_a_round() -> None:
    samples = {"ct-null-1": {"fastscp-null": rates(80, 300, 90), "floor-null": rates(100, 150, 100)}}
    found = ratios(samples, "ct-null-1", "rate", "fastscp-null", "floor-null")
    assert found == [0.8, 2.0, 0.9]
    # The ratio of the medians would be 0.9 too, that of the means 1.34; what is quoted is the median of the ratios.
    assert Spread.of(found) == Spread(median=0.9, least=0.8, most=2.0)


def test_rounds_that_do_not_match_have_no_ratio() -> None:
    samples = {"ct-null-1": {"fastscp-null": rates(80), "floor-null": rates(100, 150)}}
    with pytest.raises(ValueError, match="same rounds"):
        ratios(samples, "ct-null-1", "rate", "fastscp-null", "floor-null")


def test_no_values_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


@pytest.mark.parametrize(
    ("quantity", "value", "verdict"),
    [
        ("rate", 0.79, "falls short"), ("rate", 0.8, "pass"), ("rate", 1.0, "pass and aim"),
        ("cpu", 0.81, "falls short"), ("cpu", 0.8, "pass"), ("cpu", 0.5, "pass and aim"),
    ],
)  # fmt: skip
def test_a_rate_must_be_reached_and_a_cost_not_exceeded(quantity: str, value: float, verdict: str) -> None:
    target = Target("ct-null-1", quantity, "fastscp-null", "floor-null", must=0.8, aim=1.0 if quantity == "rate" else 0.5)  # type: ignore[arg-type]
    assert Verdict(target, Spread(value, 0, 2)).verdict == verdict


def test_a_plain_figure_is_compared_as_it_is() -> None:
    idle = [replace(BASE, cores_busy=0.004, rss_each_bytes=200_000.0)]
    found = verdicts({"idle-500": {"fastscp-file": idle}})
    assert {verdict.target.quantity: verdict.verdict for verdict in found if verdict.target.work == "idle-500"} == {
        "cores": "pass",
        "rss_each": "falls short",
    }


def test_what_was_not_measured_is_said_to_be_so() -> None:
    assert {verdict.verdict for verdict in verdicts({})} == {"not measured"}


def test_every_target_names_receivers_that_its_work_measures() -> None:
    for target in TARGETS:
        measured = WORKS[target.work].contenders
        assert target.contender in measured
        assert target.reference is None or target.reference in measured
    for work in WORKS.values():
        assert set(work.contenders) <= set(CONTENDERS)


def test_the_report_quotes_medians_with_their_range() -> None:
    samples = {"ct-null-1": {"floor-null": rates(100, 100, 100), "fastscp-null": rates(80, 90, 130)}}
    run = report.Run({"kernel": "Linux"}, {"rounds": "3"}, samples, ["ct-null-1, orthanc, round 1: lost"])
    text = report.markdown(run)
    assert "| CT, null store, 1 association | rate / floor, no file | >= 0.800 | >= 1.00 | 0.900 (0.800-1.30) | pass |" in text
    assert "| fastscp, `null:` | 90.0 (80.0-130) |" in text
    assert "orthanc, round 1: lost" in text
    content = json.loads(report.as_json(run))
    assert [sample["rate_per_s"] for sample in content["samples"]["ct-null-1"]["fastscp-null"]] == [80, 90, 130]


def test_the_report_compares_uploads_with_their_puts() -> None:
    ours = replace(BASE, rate_per_s=900, cpu_ms=0.5, latency_p50_us=22_000, latency_p99_us=50_000, put_p50_us=20_000, put_p99_us=40_000)
    parts_only = replace(BASE, latency_p50_us=100_000, latency_p99_us=200_000)
    samples = {"ct-s3-8": {"fastscp-obstore": [ours], "pynetdicom-boto3": [parts_only]}}
    text = report.markdown(report.Run({}, {}, samples, []))
    one, nine, half = "1.00 (1.00-1.00)", "9.00 (9.00-9.00)", "0.500 (0.500-0.500)"
    figures = "22.0 / 50.0 | 20.0 / 40.0 | 1.10 (1.10-1.10) | 10.0 | 1.00"
    assert f"| fastscp, `obstore` | 900 (900-900) | {half} | {figures} | {nine} | {half} |" in text
    assert f"| 100 (100-100) | {one} | 100 / 200 | - | - | 10.0 | 1.00 | {one} | {one} |" in text


def test_a_receiver_that_fails_in_any_round_has_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(bench: Bench, work: Work, name: str, directory: Path) -> Sample:
        asked.append(name)
        if name == "floor-null" and asked.count(name) == 2:
            raise LoadFailed("lost one")
        return BASE

    monkeypatch.setattr(program, "_measure", measure)
    samples, failures = program._run([WORKS["ct-null-8"]], ["floor-null", "pynetdicom-null", "pynetdicom-file"], 3, 0.1, tmp_path)
    assert asked == [
        *("floor-null", "pynetdicom-null", "pynetdicom-file"),
        *("pynetdicom-null", "pynetdicom-file", "floor-null"),
        *("pynetdicom-null", "pynetdicom-file"),
    ]
    assert {name: len(found) for name, found in samples["ct-null-8"].items()} == {"pynetdicom-null": 3, "pynetdicom-file": 3}
    assert failures == ["ct-null-8, floor-null, round 2: lost one"]


def test_a_work_that_takes_long_is_measured_in_fewer_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_measure", lambda *_: BASE)
    works = [WORKS["ct-null-1"], replace(WORKS["ct-null-8"], rounds=1)]
    samples, failures = program._run(works, ["floor-null"], 3, 0.1, tmp_path)
    assert ({name: len(found["floor-null"]) for name, found in samples.items()}, failures) == ({"ct-null-1": 3, "ct-null-8": 1}, [])


def test_the_answer_is_compared_with_the_put_that_it_waited_for() -> None:
    uploaded = [replace(BASE, latency_p50_us=23_000.0, put_p50_us=20_000.0)]
    found = {verdict.target.work: verdict for verdict in verdicts({"ct-s3-8": {"fastscp-obstore": uploaded}})}["ct-s3-8"]
    assert found.spread == Spread(1.15, 1.15, 1.15)
    assert found.verdict == "pass"
    with pytest.raises(ValueError, match="acknowledgement is not measured"):
        verdicts({"ct-s3-8": {"fastscp-obstore": [BASE]}})


def test_fastscp_is_measured_beside_itself_with_another_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "CONTENDERS", dict(CONTENDERS))
    works, chosen = program.add_beside("A=1", [WORKS["ct-s3-8"]], ["pynetdicom-boto3", "fastscp-obstore"])
    works, chosen = program.add_beside("B=2", works, chosen)
    assert chosen == ["pynetdicom-boto3", "fastscp-obstore", "fastscp-obstore,A=1", "fastscp-obstore,B=2"]
    assert set(chosen) <= set(works[0].contenders)
    assert works[0].name == "ct-s3-8"
    assert program.CONTENDERS["fastscp-obstore,A=1"].environment == {"A": "1"}
    assert program.CONTENDERS["fastscp-obstore,B=2"].environment == {"B": "2"}
    assert program.CONTENDERS["fastscp-obstore,A=1"].command is CONTENDERS["fastscp-obstore"].command


def test_a_group_stands_for_its_works() -> None:
    assert [name for names in GROUPS.values() for name in names if name not in WORKS] == []
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(WORKS)


@pytest.mark.parametrize(("kept", "fails"), [(2, True), (3, False), (4, True)])
def test_a_store_that_keeps_another_number_of_files_fails(tmp_path: Path, kept: int, fails: bool) -> None:
    place = Place(port=1, admin_port=2, directory=tmp_path)
    (place.store / "study").mkdir(parents=True)
    (place.store / "study" / "cut short").write_bytes(bytes(99))
    for number in range(kept):
        (place.store / "study" / str(number)).write_bytes(bytes(100))
    receiver = Running(CONTENDERS["floor-file"], 0, place)
    if fails:
        with pytest.raises(LoadFailed, match=f"keeps {kept} of 3"):
            Bench._check_stored(receiver, 3, 100)
    else:
        Bench._check_stored(receiver, 3, 100)


def test_the_files_for_clients_are_distinct_part_10_files(tmp_path: Path) -> None:
    directories = [tmp_path / "a", tmp_path / "b"]
    payloads.write_files(payloads.small(), directories, 3)
    files = [dcmread(path) for directory in directories for path in directory.iterdir()]
    assert len({file.SOPInstanceUID for file in files}) == 6
    for file in files:
        assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
        assert len(file.PixelData) == 32 * 32 * 2
