"""The Lambda functions: which there are, and the processes that run them.

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

from fastscp.local.objects import ACCOUNT_ID

TIMEOUTS_S = {"trigger_import": 120, "start_import_job": 120, "check_status": 600, "sweep_batches": 600}
"""The functions, and how long each may take (docs/workflow.md)."""

_GRACE_S = 5.0


class Result(NamedTuple):
    """What came of an invocation.

    Attributes:
        payload: JSON: what the handler returned, or the error as the runtime reports it.
        failed: whether the function failed.
    """

    payload: str
    failed: bool


def function_arn(function: str, region: str) -> str:
    return f"arn:aws:lambda:{region}:{ACCOUNT_ID}:function:{function}"


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
        environ: what the functions find in their environment.
        log: file that gets what the functions log.
        process_count: most invocations at one time.
    """

    def __init__(self, code: Path, environ: Mapping[str, str], region: str, log: Path, process_count: int) -> None:
        self._code = code
        self._environ = dict(environ)
        self._region = region
        self._log = log
        self._idle: queue.Queue[_Environment | None] = queue.Queue()
        for _ in range(process_count):
            self._idle.put(None)
        self._process_count = process_count

    def invoke(self, function: str, event: Any) -> Result:
        """Call a function and wait for its result."""
        environment = self._idle.get() or _Environment(self._code, self._environ, self._log)
        request_id = str(uuid.uuid4())
        invocation = {
            "id": request_id,
            "function": function,
            "arn": function_arn(function, self._region),
            "handler": f"{function}.handler.handler",
            "event": event,
            "timeout_s": TIMEOUTS_S[function],
        }
        result = environment.invoke(invocation)
        if result is not None:
            self._idle.put(environment)
            return result
        environment.stop()
        self._idle.put(None)
        message = f"RequestId: {request_id} Error: Runtime exited or its {TIMEOUTS_S[function]} s were over"
        return Result(json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message}), True)

    def stop(self) -> None:
        """End the processes, each after its invocation."""
        for _ in range(self._process_count):
            environment = self._idle.get()
            if environment is not None:
                environment.stop()
