"""Flags over environment over file, and every way in which they can be wrong."""

import ipaddress
import itertools
import os
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from fastscp.errors import ConfigError
from fastscp.settings import (
    JOBS_OPTIONS,
    OPTIONS,
    JobsSettings,
    Settings,
    StoreTarget,
    inspect_settings,
    load_jobs_settings,
    load_settings,
)
from fastscp.settings.machine import processor_count
from fastscp.settings.table import ABORT_GRACE_S, EXIT_GRACE_S


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("FASTSCP_"):
            monkeypatch.delenv(variable)


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "fastscp.toml"
    path.write_text(text)
    return str(path)


def problem(flags: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(flags)
    text = str(caught.value)
    assert text.startswith(caught.value.option + ": ")
    assert "\n" not in text
    return text


def test_the_defaults_are_those_that_are_promised() -> None:
    settings, sources = load_settings({})
    assert set(sources) == set(OPTIONS)
    assert set(sources.values()) == {"default"}
    assert load_settings({"store": "s3://bucket/prefix"})[0].workers == processor_count()
    assert load_settings({"store": "s3://bucket/prefix", "workers": "1"})[0].workers == 1
    assert msgspec.structs.asdict(settings) | {"memory_budget_bytes": 0} == {
        "host": "0.0.0.0",
        "port": 11112,
        "aet": "FASTSCP",
        "admin_host": "127.0.0.1",
        "admin_port": 8080,
        "store": StoreTarget("file", "./received"),
        "fsync": True,
        "on_duplicate": "overwrite",
        "s3_engine": "auto",
        "aws_region": "",
        "bucket_owner": "",
        "encryption": "bucket-default",
        "kms_key": "",
        "require_called_aet": False,
        "require_calling_aet": (),
        "peers": (),
        "proxy_protocol": (),
        "sop_classes": (),
        "workers": 1,
        "max_associations": 300,
        "max_pdu_bytes": 131072,
        "max_instance_bytes": 4 * 1024**3,
        "memory_budget_bytes": 0,
        "spill_threshold_bytes": 16 * 1024**2,
        "associate_timeout_s": 30.0,
        "idle_timeout_s": 600.0,
        "progress_timeout_s": 30.0,
        "put_timeout_s": 30.0,
        "quiet_period_s": 15.0,
        "drain_timeout_s": 75.0,
        "stop_timeout_s": 120.0,
        "log_level": "info",
        "log_format": "auto",
        "emf_namespace": "",
    }


def test_settings_cannot_be_changed() -> None:
    settings, _ = load_settings({})
    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]


def test_the_default_of_every_option_is_one_that_it_would_take() -> None:
    for option in OPTIONS.values():
        kind = option.declared.kind
        if not kind.many:
            assert kind.parse(kind.show(option.default)) == option.default, option.name


def test_flag_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, 'max_pdu = 4096\nport = 1\naet = "FILE"\n')
    monkeypatch.setenv("FASTSCP_MAX_PDU", "8192")
    monkeypatch.setenv("FASTSCP_PORT", "2")
    settings, sources = load_settings({"config": path, "max_pdu": "16384", "port": None, "peers": ()})
    assert (settings.max_pdu_bytes, settings.port, settings.aet) == (16384, 2, "FILE")
    assert sources["max_pdu"] == "flag"
    assert sources["port"] == "environment FASTSCP_PORT"
    assert sources["aet"] == f"file {path}: aet"
    assert sources["peers"] == "default"


def test_a_value_that_loses_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSCP_PORT", "nonsense")
    assert load_settings({"port": "5"})[0].port == 5


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_all_three_forms(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option = OPTIONS[name]
    text = {
        "host": "::1",
        "admin_host": "::1",
        "aet": "OTHER",
        "store": "null:",
        "proxy_protocol": "10.2.0.0/16",
        "peers": "10.0.0.0/8",
        "sop_classes": "1.2.3",
        "require_calling_aet": "CT1",
        "require_called_aet": "yes",
        "fsync": "no",
        "on_duplicate": "reject",
        "s3_engine": "s3transfer",
        "bucket_owner": "123456789012",
        "encryption": "aws:kms",
        "log_level": "debug",
        "log_format": "json",
        "spill_threshold": "1MiB",
        "workers": "3",
        "memory_budget": "64MiB",
        "drain_timeout": "61",
        "stop_timeout": "119",
        "put_timeout": "29",
    }.get(name, "5000")
    value = option.declared.kind.parse(text)
    expected = (value,) if option.declared.kind.many else value
    assert expected != option.default

    def got(flags: dict[str, object]) -> object:
        return getattr(load_settings({"spill_threshold": "1MiB", **flags} if name == "max_instance_size" else flags)[0], option.attribute)

    assert got({name: text}) == expected
    literal = f'["{text}"]' if option.declared.kind.many else f'"{text}"'
    assert got({"config": write(tmp_path, f"{name} = {literal}")}) == expected
    monkeypatch.setenv(option.variable, text)
    assert got({}) == expected


def test_the_file_may_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSCP_CONFIG", write(tmp_path, "port = 7"))
    assert load_settings({})[0].port == 7


def test_types_of_toml(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'fsync = false\nrequire_called_aet = true\nidle_timeout = 12.5\nmax_pdu = "64KiB"\npeers = ["10.0.0.0/8", "::1"]\n'
        'require_calling_aet = ["A, B", "C"]\nspill_threshold = 2097152\n',
    )
    settings, _ = load_settings({"config": path})
    assert settings.fsync is False
    assert settings.require_called_aet is True
    assert settings.idle_timeout_s == 12.5
    assert settings.max_pdu_bytes == 65536
    assert settings.peers == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
    # A title may contain a comma; only a file can say so.
    assert settings.require_calling_aet == ("A, B", "C")
    assert settings.spill_threshold_bytes == 2097152


def test_lists_in_flags_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({"require_calling_aet": ("A, B", "C", "A")})[0].require_calling_aet == ("A", "B", "C")
    monkeypatch.setenv("FASTSCP_REQUIRE_CALLING_AET", "A, B")
    assert load_settings({})[0].require_calling_aet == ("A", "B")
    monkeypatch.setenv("FASTSCP_REQUIRE_CALLING_AET", "")
    assert load_settings({})[0].require_calling_aet == ()


def test_a_switch_can_be_turned_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSCP_REQUIRE_CALLED_AET", "yes")
    assert load_settings({})[0].require_called_aet is True
    assert load_settings({"require_called_aet": False})[0].require_called_aet is False


# Problems, each named in the form in which the person wrote the option.


def test_wrong_flag() -> None:
    assert problem({"max_pdu": "0"}) == "--max-pdu: '0' is not from 4096 to 1048576"


def test_wrong_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSCP_PORT", "65536")
    assert problem({}) == "FASTSCP_PORT: '65536' is not from 0 to 65535"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = 1.5", ": port: '1.5' is not a whole number"),
        ("port = true", ": port: 'yes' is not a whole number"),
        ("port = [1]", ": port: a list is not possible here"),
        ("port = 2020-01-01", ": port: a date is not possible here"),
        ("[port]\nx = 1", ": port: a dict is not possible here"),
        ('peers = ["x"]', ": peers: 'x' is not an IP address"),
        ("peers = [[]]", ": peers: a list is not possible here"),
        ('"max pdu" = 1', ": 'max pdu': unknown option (is max_pdu meant?)"),
        ("max_pdus = 1", ": max_pdus: unknown option (is max_pdu meant?)"),
        ("zzz = 1", ": zzz: unknown option"),
        ('config = "x"', ": config: unknown option"),
    ],
)
def test_wrong_file_entry(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    assert problem({"config": path}).startswith(path + words)


@pytest.mark.parametrize(
    ("variable", "hint"), [("FASTSCP_MAX_PDUS", " (is FASTSCP_MAX_PDU meant?)"), ("FASTSCP_", ""), ("FASTSCP_QQQQ", "")]
)
def test_unknown_variable(monkeypatch: pytest.MonkeyPatch, variable: str, hint: str) -> None:
    monkeypatch.setenv(variable, "1")
    assert problem({}) == f"{variable}: unknown variable{hint}"


def test_the_variable_that_chooses_the_build_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSCP_BUILD", "release")
    load_settings({})


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = str(tmp_path / "absent.toml")
    assert problem({"config": absent}) == f"--config: cannot read {absent!r}: No such file or directory"
    assert "Is a directory" in problem({"config": str(tmp_path)})
    monkeypatch.setenv("FASTSCP_CONFIG", absent)
    assert problem({}).startswith("FASTSCP_CONFIG: cannot read ")


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    assert "is not a TOML file" in problem({"config": write(tmp_path, "port 11112\n\n]")})
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is not a TOML file" in problem({"config": str(binary)})
    assert "is not a TOML file" in problem({"config": write(tmp_path, "port = 1\nport = 2")})


def test_contradictions_name_the_option_that_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem({"put_timeout": "75"}) == "--put-timeout: --put-timeout (75) must be less than --drain-timeout (75)"
    assert problem({"drain_timeout": "30"}).startswith("--drain-timeout: ")
    too_long = "(84), 5 s for aborts, --put-timeout (30) for manifests and 2 s must be at most --stop-timeout (120)"
    assert problem({"drain_timeout": "84"}) == f"--drain-timeout: --drain-timeout {too_long}"
    assert problem({"put_timeout": "39"}).startswith("--put-timeout: ")
    assert problem({"stop_timeout": "30"}).startswith("--stop-timeout: ")
    too_small = "--memory-budget: --spill-threshold (16MiB) must be at most --memory-budget (8MiB)"
    assert problem({"memory_budget": "8MiB", "workers": "1"}) == too_small
    assert problem({"memory_budget": "60MiB", "workers": "4"}).endswith("--memory-budget (60MiB) divided by --workers (4)")
    assert problem({"admin_port": "11112"}) == "--admin-port: --port and --admin-port are both 11112"
    assert problem({"port": "8080"}).startswith("--port: ")
    path = write(tmp_path, "put_timeout = 100")
    assert problem({"config": path}).startswith(f"{path}: put_timeout: ")
    monkeypatch.setenv("FASTSCP_DRAIN_TIMEOUT", "1")
    assert problem({}).startswith("FASTSCP_DRAIN_TIMEOUT: ")
    assert load_settings({"port": "0", "admin_port": "0", "drain_timeout": "61", "stop_timeout": "119"})[0].port == 0


FARGATE = {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
DEFAULTS = {"put_timeout": 30.0, "drain_timeout": 75.0, "stop_timeout": 120.0}
LADDER = [
    dict(zip(DEFAULTS, values, strict=True))
    for values in itertools.product(
        (None, 1.0, 29.0, 30.0, 38.0, 39.0, 80.0), (None, 1.0, 30.0, 31.0, 75.0, 83.0, 84.0), (None, 8.0, 68.0, 120.0)
    )
]


@pytest.mark.parametrize("place", ["flag", "environment", "file"])
def test_the_ladder_of_the_drain_is_held_for_every_combination(tmp_path: Path, place: str) -> None:
    """PUT < drain, and drain, aborts, manifests and the exit within what the service manager waits; told of whoever chose a value."""
    seen = Counter[bool]()
    for chosen in LADDER:
        given = {name: f"{value:g}" for name, value in chosen.items() if value is not None}
        put_s, drain_s, stop_s = (DEFAULTS[name] if value is None else value for name, value in chosen.items())
        flags: dict[str, object] = dict(given) if place == "flag" else {}
        environ = {OPTIONS[name].variable: value for name, value in given.items()} if place == "environment" else {}
        if place == "file":
            flags["config"] = write(tmp_path, "".join(f"{name} = {value}\n" for name, value in given.items()))
        problems = inspect_settings(flags, environ).problems
        fits = put_s < drain_s and drain_s + ABORT_GRACE_S + put_s + EXIT_GRACE_S <= stop_s
        assert (not problems) == fits, (chosen, problems)
        for problem in problems:
            assert any(name in problem.option.lower().replace("-", "_") for name in given), (chosen, problem)
        seen[fits] += 1
    assert min(seen[True], seen[False]) >= 20


@pytest.mark.parametrize(("environ", "fits"), [({}, True), ({"AWS_EXECUTION_ENV": "AWS_ECS_EC2"}, True), (FARGATE, False)])
def test_fargate_waits_two_minutes_at_most(environ: dict[str, str], fits: bool) -> None:
    problems = inspect_settings({"stop_timeout": "121", "drain_timeout": "76"}, environ).problems
    assert [str(problem) for problem in problems] == ([] if fits else ["--stop-timeout: --stop-timeout (121) is at most 120 on Fargate"])
    assert inspect_settings({"stop_timeout": "120"}, environ).problems == []


def test_inspection_tells_all_problems(tmp_path: Path) -> None:
    inspection = inspect_settings({"config": write(tmp_path, "nope = 1"), "port": "x", "aet": ""}, {"FASTSCP_NOPE": ""})
    assert inspection.settings is None
    assert [problem.option.removeprefix(str(tmp_path)) for problem in inspection.problems] == [
        "/fastscp.toml: nope",
        "FASTSCP_NOPE",
        "--port",
        "--aet",
    ]
    assert inspection.values["port"] == 11112


def test_inspection_of_a_good_configuration() -> None:
    inspection = inspect_settings({}, {})
    assert inspection.problems == []
    assert inspection.settings == Settings(memory_budget_bytes=inspection.values["memory_budget"])


def test_the_options_of_jobs_come_from_the_same_three_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, 'batch_table = "file-table"\njob_table = "file-jobs"\nport = 104\n')
    monkeypatch.setenv("FASTSCP_CONFIG", file)
    monkeypatch.setenv("FASTSCP_JOB_TABLE", "environment-jobs")
    monkeypatch.setenv("FASTSCP_AET", "OF-THE-RECEIVER")
    monkeypatch.setenv("FASTSCP_STORE", "s3://images/p")
    assert load_jobs_settings({"batch_table": None, "aws_region": "eu-west-1"}) == JobsSettings(
        batch_table="file-table", job_table="environment-jobs", store=StoreTarget("s3", "p", "images"), aws_region="eu-west-1"
    )


def test_the_receiver_passes_over_the_options_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for option in JOBS_OPTIONS.values():
        if option.name not in OPTIONS:
            monkeypatch.setenv(option.variable, "!")
    settings, sources = load_settings({"config": write(tmp_path, 'batch_table = "!"\n')})
    assert settings == load_settings({})[0]
    assert not set(JOBS_OPTIONS) - set(OPTIONS) & set(sources)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FASTSCP_BATCH_TABLE", "x", "FASTSCP_BATCH_TABLE: 'x' is not the name of a table"),
        ("FASTSCP_JOB_TABLE", "a b c", "FASTSCP_JOB_TABLE: 'a b c' is not the name of a table"),
        ("FASTSCP_BATCH_TABEL", "abc", "FASTSCP_BATCH_TABEL: unknown variable (is FASTSCP_BATCH_TABLE meant?)"),
    ],
)
def test_a_wrong_option_of_jobs(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load_jobs_settings({})
    assert str(caught.value).startswith(words)
