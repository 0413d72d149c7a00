"""One execution environment of AWS Lambda: a process that calls handlers, one invocation at a time.

Enters: invocations as lines of JSON on stdin. Leaves: results as lines of JSON on the standard output that it was started with.
Never: two invocations at once; what a function prints among the results.
"""

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any


class Context:
    """The context object, as far as Python functions may rely on it: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html."""

    memory_limit_in_mb = 512
    function_version = "$LATEST"

    def __init__(self, function: str, arn: str, request_id: str, timeout_s: float) -> None:
        self.function_name = function
        self.invoked_function_arn = arn
        self.aws_request_id = request_id
        self._ends_at_s = time.monotonic() + timeout_s

    def get_remaining_time_in_millis(self) -> int:
        return max(0, round((self._ends_at_s - time.monotonic()) * 1000))


def invoke(invocation: dict[str, Any]) -> dict[str, Any]:
    """Call the handler. The result has "payload", and "error" where the function failed."""
    try:
        module, _, name = invocation["handler"].rpartition(".")
        handler = getattr(importlib.import_module(module), name)
        context = Context(invocation["function"], invocation["arn"], invocation["id"], invocation["timeout_s"])
        return {"payload": json.dumps(handler(invocation["event"], context))}
    except Exception as error:
        # As the runtime of AWS reports it; the state machine tells errors apart by errorType.
        payload = {
            "errorMessage": str(error),
            "errorType": type(error).__name__,
            "requestId": invocation["id"],
            "stackTrace": traceback.format_tb(error.__traceback__),
        }
        traceback.print_exc()
        return {"payload": json.dumps(payload), "error": True}


def main() -> None:
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        result = invoke(json.loads(line))
        sys.stdout.flush()
        print(json.dumps(result), file=results, flush=True)


if __name__ == "__main__":
    main()
