"""The processes that run functions: what comes back, what is logged, what happens when one dies."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastscp.errors import ConfigError
from fastscp.local.functions import Function, Functions
from tests.peers.server import process_tree

HANDLERS = {
    "trigger_import": """
        import os
        print("printed by the function")
        def handler(event, context):
            print("event", event)
            return {"event": event, "place": os.environ["PLACE"], "home": os.environ.get("HOME"), "name": context.function_name,
                    "left": context.get_remaining_time_in_millis() > 1000, "process": os.getpid()}
    """,
    "start_import_job": """
        class RetryableError(Exception): pass
        def handler(event, context): raise RetryableError("later")
    """,
    "check_status": """
        import os
        def handler(event, context): os._exit(3)
    """,
    "sweep_batches": """
        import time
        def handler(event, context): time.sleep(60)
    """,
}


pytestmark = pytest.mark.requires_linux


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Functions]:
    for name, source in HANDLERS.items():
        (tmp_path / "code" / name).mkdir(parents=True)
        (tmp_path / "code" / name / "__init__.py").touch()
        lines = source.strip("\n").splitlines()
        (tmp_path / "code" / name / "handler.py").write_text("\n".join(line.removeprefix(" " * 8) for line in lines))
    functions = {name: Function(f"arn:{name}", f"{name}.handler.handler", 60, {"PLACE": "here"}) for name in HANDLERS}
    functions["sweep_batches"] = functions["sweep_batches"]._replace(timeout_s=1)
    elsewhere = functions["trigger_import"]._replace(arn="arn:elsewhere", variables={"PLACE": "elsewhere"})
    made = Functions(tmp_path / "code", {**functions, "elsewhere": elsewhere}, tmp_path / "log", 2)
    yield made
    made.stop()
    assert function_processes() == []


def function_processes() -> list[int]:
    found = []
    for pid in process_tree(os.getpid()):
        try:
            if b"fastscp.local.environment" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def test_a_handler_gets_event_context_and_its_environment_only(pool: Functions, tmp_path: Path) -> None:
    result = pool.invoke("trigger_import", {"a": [1, "ü"]})
    assert not result.failed
    answer = json.loads(result.payload)
    assert isinstance(answer.pop("process"), int)
    assert answer == {"event": {"a": [1, "ü"]}, "place": "here", "home": None, "name": "trigger_import", "left": True}
    assert (tmp_path / "log").read_text().startswith("printed by the function\nevent")


def test_functions_share_a_process_only_where_they_have_the_same_environment(pool: Functions) -> None:
    here, elsewhere = (json.loads(pool.invoke(name, {}).payload) for name in ("trigger_import", "elsewhere"))
    assert (here["place"], elsewhere["place"]) == ("here", "elsewhere")
    assert here["process"] != elsewhere["process"]
    for name in ("start_import_job", "trigger_import", "start_import_job", "elsewhere"):
        pool.invoke(name, {})
    assert len(function_processes()) <= 2 + 2
    assert {json.loads(pool.invoke(name, {}).payload)["place"] for name in ("elsewhere", "elsewhere")} == {"elsewhere"}


def test_an_arn_names_the_function_that_has_it_or_none(pool: Functions) -> None:
    assert pool.named("arn:elsewhere") == "elsewhere"
    with pytest.raises(ConfigError, match="arn:nobody"):
        pool.named("arn:nobody")


def test_an_exception_is_told_by_the_name_of_its_class(pool: Functions) -> None:
    result = pool.invoke("start_import_job", {})
    assert result.failed
    answer = json.loads(result.payload)
    assert (answer["errorType"], answer["errorMessage"]) == ("RetryableError", "later")


def test_a_process_that_dies_is_an_error_and_the_next_invocation_has_another(pool: Functions) -> None:
    for _ in range(3):
        result = pool.invoke("check_status", {})
        assert (result.failed, json.loads(result.payload)["errorType"]) == (True, "Runtime.ExitError")
    assert not pool.invoke("trigger_import", {}).failed


def test_a_function_whose_time_is_up_is_ended(pool: Functions) -> None:
    result = pool.invoke("sweep_batches", {})
    assert (result.failed, json.loads(result.payload)["errorType"]) == (True, "Runtime.ExitError")


def test_processes_are_kept_and_no_more_than_so_many(pool: Functions) -> None:
    with ThreadPoolExecutor(20) as threads:
        results = list(threads.map(lambda _: pool.invoke("trigger_import", {}), range(40)))
    assert len({json.loads(result.payload)["process"] for result in results}) <= 2
    assert len(function_processes()) <= 2
