"""Event source mappings, from a queue to its function, and schedules, from the time to theirs: moto has neither.

Enters: what the templates say of them; messages of a queue; time. Leaves: invocations; messages deleted.
Never: a message deleted that its function did not take.

Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import json
import re
import threading
from collections.abc import Mapping
from typing import Any

from fastscp.errors import ConfigError
from fastscp.local.functions import Functions, Result
from fastscp.observe.log import get_logger

_LONGEST_WAIT_S = 1
_RATE = re.compile(r"rate\((\d+(?:\.\d+)?) (second|minute|hour)s?\)")
_UNITS_S = {"second": 1, "minute": 60, "hour": 3600}

_log = get_logger("local")


class EventSource:
    """Receives batches of messages and hands them to a function.

    Where the function fails, all of them stay in the queue, and with ReportBatchItemFailures those that it reports: they are visible
    again after the queue's visibility timeout, and go to the dead-letter queue when they were received as often as the redrive policy says.

    Args:
        sqs: a boto3 client.
        properties: of an AWS::Lambda::EventSourceMapping.
        poller_count: most invocations at one time.

    Raises:
        ConfigError: there is no such function.
    """

    def __init__(self, sqs: Any, functions: Functions, properties: Mapping[str, Any], poller_count: int = 2) -> None:
        self._sqs = sqs
        self._queue_arn = str(properties["EventSourceArn"])
        self._queue_url = sqs.get_queue_url(QueueName=self._queue_arn.rpartition(":")[2])["QueueUrl"]
        self._functions = functions
        self._function = functions.named(properties["FunctionName"])
        self._batch_size = int(properties["BatchSize"])
        self._reports_failures = "ReportBatchItemFailures" in properties.get("FunctionResponseTypes", ())
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
            MaxNumberOfMessages=self._batch_size,
            WaitTimeSeconds=_LONGEST_WAIT_S,
            AttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            return 0
        result = self._functions.invoke(self._function, {"Records": [self._record(message) for message in messages]})
        kept = self._kept(result, {message["MessageId"] for message in messages})
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

    def _kept(self, result: Result, received: set[str]) -> set[str]:
        """The messages that stay. An answer that cannot be understood keeps all of them."""
        if result.failed:
            return received
        answer = json.loads(result.payload) if self._reports_failures else None
        if not answer:
            return set()
        try:
            failures = {failure["itemIdentifier"] for failure in answer.get("batchItemFailures") or ()}
        except (AttributeError, KeyError, TypeError):
            return received
        return failures if failures <= received else received


class Schedule:
    """Invokes a function again and again, the first time after one interval.

    Args:
        properties: of an AWS::Scheduler::Schedule. Its retries and its dead-letter queue are not made.

    Attributes:
        interval_s: between two invocations.

    Raises:
        ConfigError: there is no such function, or the schedule is not a rate.
    """

    def __init__(self, functions: Functions, properties: Mapping[str, Any]) -> None:
        target = properties["Target"]
        self._functions = functions
        self._function = functions.named(target["Arn"])
        self._event = json.loads(target["Input"])
        self.interval_s = _interval_s(properties["ScheduleExpression"])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self.interval_s):
            self.invoke()

    def invoke(self) -> Result:
        """Invoke the function once, now."""
        result = self._functions.invoke(self._function, self._event)
        if result.failed:
            _log.warning("scheduled_function_failed", function=self._function, payload=result.payload)
        return result


def _interval_s(expression: str) -> float:
    match = _RATE.fullmatch(expression)
    if match is None:
        raise ConfigError("fastscp local", f"the schedule {expression!r} is not a rate")
    return float(match[1]) * _UNITS_S[match[2]]
