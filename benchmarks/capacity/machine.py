"""The state machine of `cfn/statemachine/import.asl.json`, as far as its definition goes.

Enters: the definition, functions by name. Leaves: the seconds to wait, one after the other, until an execution ends.
Never: a kind of state, a retry or a catch other than those of the definition.
"""

import json
import random
from collections.abc import Callable, Generator, Mapping
from typing import Any

from benchmarks.capacity import ROOT
from importflow.errors import ImportFlowError

DEFINITION = ROOT / "cfn" / "statemachine" / "import.asl.json"
Function = Callable[[dict[str, Any]], Any]


def load() -> dict[str, Any]:
    """The definition that is deployed."""
    definition: dict[str, Any] = json.loads(DEFINITION.read_text())
    return definition


class FailedExecution(Exception):
    """An execution came to a Fail state."""


def execute(
    definition: dict[str, Any], functions: Mapping[str, Function], given: dict[str, Any], call_s: float, jitter: random.Random
) -> Generator[float, None, None]:
    """Yields the seconds after which the execution goes on.

    Args:
        functions: by the name of their substitution, such as TriggerImportFunctionArn. They raise the errors that Retry and Catch name.
        given: batchId and attempt.
        call_s: how long the call of a function takes.
    """
    states, name, step = definition["States"], definition["StartAt"], {"next": "", "seconds": 0}
    while True:
        state = states[name]
        match state["Type"]:
            case "Succeed":
                return
            case "Fail":
                raise FailedExecution(name)
            case "Wait":
                yield float(state["Seconds"] if "Seconds" in state else step["seconds"])
                name = state["Next"]
            case "Choice":
                name = next((choice["Next"] for choice in state["Choices"] if step["next"] == choice["StringEquals"]), state["Default"])
            case "Task":
                answer, caught = yield from _task(state, functions, given, call_s, jitter)
                if caught is None and state["ResultPath"] == "$.step":
                    step = answer
                name = caught or state["Next"]
            case other:
                raise ValueError(f"{other} is not understood")


def _task(
    state: dict[str, Any], functions: Mapping[str, Function], given: dict[str, Any], call_s: float, jitter: random.Random
) -> Generator[float, None, tuple[Any, str | None]]:
    """What the function answered, and the state that a catch leads to."""
    parameters = state["Parameters"]
    payload = {
        name.removesuffix(".$"): given.get(name.removesuffix(".$")) if name.endswith(".$") else value
        for name, value in parameters["Payload"].items()
    }
    function = functions[parameters["FunctionName"].removeprefix("${").removesuffix("}")]
    done = [0] * len(state["Retry"])
    while True:
        yield call_s
        try:
            return function(payload), None
        except ImportFlowError as error:
            known = type(error).__name__
        rule = next((number for number, one in enumerate(state["Retry"]) if known in one["ErrorEquals"]), None)
        if rule is not None and done[rule] < state["Retry"][rule]["MaxAttempts"]:
            retry = state["Retry"][rule]
            yield jitter.uniform(0, min(retry["IntervalSeconds"] * retry["BackoffRate"] ** done[rule], retry["MaxDelaySeconds"]))
            done[rule] += 1
        else:
            return None, next(one["Next"] for one in state["Catch"] if {known, "States.ALL"} & set(one["ErrorEquals"]))
