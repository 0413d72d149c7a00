"""The state machine of cfn/statemachine/, run over the real functions on a clock that nobody waits for.

It knows what that definition uses (Task by lambda:invoke, Choice by StringEquals, Wait, Succeed, Fail, Retry, Catch, paths), no more.
moto's interpreter runs the same definition in test_statemachine.py.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lambdas.services import Clock

DEFINITION = Path(__file__).parents[2] / "cfn" / "statemachine" / "import.asl.json"
MOST_STEPS = 3000

Function = Callable[[dict[str, Any]], Any]


def path(expression: str, data: Any) -> Any:
    for name in expression.removeprefix("$").strip(".").split("."):
        data = data[name] if name else data
    return data


def fill(template: Any, data: Any) -> Any:
    if not isinstance(template, dict):
        return template
    return {k.removesuffix(".$"): path(v, data) if k.endswith(".$") else fill(v, data) for k, v in template.items()}


class Machine:
    """One definition, and functions by the substitutions of their ARNs."""

    def __init__(self, functions: dict[str, Function], clock: Clock) -> None:
        self.definition = json.loads(DEFINITION.read_text())
        self._functions = functions
        self._clock = clock
        self.story: list[str] = []

    def run(self, given: dict[str, Any]) -> str:
        """Run one execution to its end. Returns its status."""
        data, name = copy.deepcopy(given), self.definition["StartAt"]
        began_s = self._clock.now()
        for _ in range(MOST_STEPS):
            if self._clock.now() > began_s + self.definition["TimeoutSeconds"]:
                return "TIMED_OUT"
            state = self.definition["States"][name]
            self.story.append(name)
            match state["Type"]:
                case "Succeed":
                    return "SUCCEEDED"
                case "Fail":
                    return "FAILED"
                case "Wait":
                    self._clock.sleep(path(state["SecondsPath"], data) if "SecondsPath" in state else state["Seconds"])
                    name = state["Next"]
                case "Choice":
                    hits = [rule["Next"] for rule in state["Choices"] if path(rule["Variable"], data) == rule["StringEquals"]]
                    name = hits[0] if hits else state["Default"]
                case "Task":
                    name = self._task(state, data)
        raise AssertionError(f"no end: {self.story[-12:]}")

    def _task(self, state: dict[str, Any], data: Any) -> str:
        assert state["Resource"] == "arn:aws:states:::lambda:invoke"
        function = self._functions[state["Parameters"]["FunctionName"]]
        tries: dict[int, int] = {}
        while True:
            try:
                payload = json.loads(json.dumps(fill(state["Parameters"]["Payload"], data)))
                result = json.loads(json.dumps({"Payload": function(payload)}))
            except Exception as error:  # whatever a function raises is an error with the name of its class
                wait = self._retry(state, type(error).__name__, tries)
                if wait is None:
                    return self._catch(state, data, error)
                self._clock.sleep(wait)
                continue
            if state["ResultPath"] is not None:
                data[state["ResultPath"].removeprefix("$.")] = fill(state["ResultSelector"], result)
            return str(state["Next"])

    def _retry(self, state: dict[str, Any], name: str, tries: dict[int, int]) -> float | None:
        for index, rule in enumerate(state["Retry"]):
            if name in rule["ErrorEquals"]:
                done = tries.get(index, 0)
                tries[index] = done + 1
                wait = min(rule["IntervalSeconds"] * rule["BackoffRate"] ** done, rule["MaxDelaySeconds"])
                return wait if done < rule["MaxAttempts"] else None
        return None

    def _catch(self, state: dict[str, Any], data: Any, error: Exception) -> str:
        name = type(error).__name__
        for rule in state["Catch"]:
            if name in rule["ErrorEquals"] or "States.ALL" in rule["ErrorEquals"]:
                if rule["ResultPath"] is not None:
                    cause = json.dumps({"errorMessage": str(error), "errorType": name})
                    data[rule["ResultPath"].removeprefix("$.")] = {"Error": name, "Cause": cause}
                return str(rule["Next"])
        raise AssertionError(f"{name} is caught by nothing")
