"""The event source mapping from the import queue to its function, and the schedule of the sweeper: moto has neither.

Enters: messages of the queue; time. Leaves: invocations; messages deleted. Never: a message deleted that its function did not take.

Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import json
import threading
from typing import Any

from fastscp.local.functions import Functions, Result
from fastscp.observe.log import get_logger

BATCH_SIZE = 10
_LONGEST_WAIT_S = 1

_log = get_logger("local")


class EventSource:
    """Receives batches of messages and hands them to a function that reports the failed ones (ReportBatchItemFailures).

    What is reported, and all where the function fails, stays in the queue: it is visible again after the queue's visibility timeout,
    and goes to the dead-letter queue when it was received as often as the redrive policy says.

    Args:
        sqs: a boto3 client.
        poller_count: most invocations at one time.
    """

    def __init__(self, sqs: Any, queue_url: str, queue_arn: str, functions: Functions, function: str, poller_count: int = 2) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._queue_arn = queue_arn
        self._functions = functions
        self._function = function
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"event-source_{n}", daemon=True) for n in range(poller_count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the batches under way."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.poll()

    def poll(self) -> int:
        """Receive and hand on one batch. Returns how many messages were received."""
        answer = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=BATCH_SIZE,
            WaitTimeSeconds=_LONGEST_WAIT_S,
            AttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            return 0
        result = self._functions.invoke(self._function, {"Records": [self._record(message) for message in messages]})
        kept = _failed(result, {message["MessageId"] for message in messages})
        taken = [
            {"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]}
            for message in messages
            if message["MessageId"] not in kept
        ]
        if taken:
            self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=taken)
        if kept:
            _log.warning("events_kept", function=self._function, count=len(kept), answer=result.payload[:500])
        return len(messages)

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._queue_arn,
            "awsRegion": self._queue_arn.split(":")[3],
        }


def _failed(result: Result, received: set[str]) -> set[str]:
    """The messages that stay. An answer that cannot be understood keeps all of them."""
    if result.failed:
        return received
    answer = json.loads(result.payload)
    if not answer:
        return set()
    try:
        failures = {failure["itemIdentifier"] for failure in answer.get("batchItemFailures") or ()}
    except (AttributeError, KeyError, TypeError):
        return received
    return failures if failures <= received else received


class Schedule:
    """Invokes a function again and again, the first time after one interval."""

    def __init__(self, functions: Functions, function: str, interval_s: float) -> None:
        self._functions = functions
        self._function = function
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            result = self._functions.invoke(self._function, {})
            if result.failed:
                _log.warning("scheduled_function_failed", function=self._function, payload=result.payload)
