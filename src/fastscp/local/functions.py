"""The processes that run the Lambda functions.

Enters: events. Leaves: what the handlers return, or how they failed. Never: a handler called by two threads of one process.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastscp.errors import ConfigError

_GRACE_S = 5.0


class Function(NamedTuple):
    """What Lambda is told of a function.

    Attributes:
        handler: module and name, with dots.
        timeout_s: how long it may take.
        variables: what it finds in its environment.
    """

    arn: str
    handler: str
    timeout_s: float
    variables: dict[str, str]


class Result(NamedTuple):
    """What came of an invocation.

    Attributes:
        payload: JSON: what the handler returned, or the error as the runtime reports it.
        failed: whether the function failed.
    """

    payload: str
    failed: bool


class _Environment:
    def __init__(self, code: Path, environ: Mapping[str, str], log: Path) -> None:
        # The functions find their own packages first, then those of this interpreter.
        path = os.pathsep.join([str(code), *(entry or "." for entry in sys.path)])
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fastscp.local.environment"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={"PATH": os.defpath, "TZ": ":UTC", "PYTHONPATH": path, "LAMBDA_TASK_ROOT": str(code), **environ},
                # Ctrl-C is for the program that started this, which ends its environments itself.
                start_new_session=True,
            )
        assert self._process.stdin is not None  # noqa: S101 - for mypy: both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def invoke(self, invocation: Mapping[str, Any]) -> Result | None:
        """None where the process ended instead of answering, or had to be ended because its time was up."""
        timer = threading.Timer(invocation["timeout_s"], self._process.kill)
        timer.start()
        try:
            self._stdin.write(json.dumps(invocation) + "\n")
            self._stdin.flush()
            line = self._stdout.readline()
        except OSError:
            return None
        finally:
            timer.cancel()
        if not line:
            return None
        result = json.loads(line)
        return Result(result["payload"], "error" in result)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()


class Functions:
    """Runs functions in processes that are kept. Thread-safe; an invocation waits until a process is free.

    Args:
        code: directory with the packages of the functions.
        functions: by name. Those whose environment is the same share processes.
        log: file that gets what the functions log.
        process_count: most invocations at one time of functions that share processes.
    """

    def __init__(self, code: Path, functions: Mapping[str, Function], log: Path, process_count: int) -> None:
        self._code = code
        self._functions = functions
        self._log = log
        self._process_count = process_count
        shared: dict[frozenset[tuple[str, str]], queue.Queue[_Environment | None]] = {}
        self._idle = {name: shared.setdefault(frozenset(one.variables.items()), queue.Queue()) for name, one in functions.items()}
        for idle in shared.values():
            for _ in range(process_count):
                idle.put(None)

    def named(self, arn: str) -> str:
        """The name of the function that has this ARN. Raises ConfigError."""
        for name, function in self._functions.items():
            if function.arn == arn:
                return name
        raise ConfigError("fastscp local", f"{arn} is to be invoked and is none of the functions")

    def invoke(self, name: str, event: Any) -> Result:
        """Call a function and wait for its result."""
        function, idle = self._functions[name], self._idle[name]
        environment = idle.get() or _Environment(self._code, function.variables, self._log)
        request_id = str(uuid.uuid4())
        invocation = {
            "id": request_id,
            "function": name,
            "arn": function.arn,
            "handler": function.handler,
            "event": event,
            "timeout_s": function.timeout_s,
        }
        result = environment.invoke(invocation)
        if result is not None:
            idle.put(environment)
            return result
        environment.stop()
        idle.put(None)
        message = f"RequestId: {request_id} Error: Runtime exited or its {function.timeout_s:g} s were over"
        return Result(json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message}), True)

    def stop(self) -> None:
        """End the processes, each after its invocation."""
        for idle in set(self._idle.values()):
            for _ in range(self._process_count):
                environment = idle.get()
                if environment is not None:
                    environment.stop()
