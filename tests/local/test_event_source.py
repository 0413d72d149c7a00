"""Event source mappings, what delivers events to their queues, and schedules: what is deleted, what stays, is given up, comes twice."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fastscp.errors import ConfigError
from fastscp.local import hooks
from fastscp.local.event_source import EventSource, Schedule
from fastscp.local.functions import Result
from fastscp.local.server import Server
from fastscp.local.wiring import client
from tests.local.support import reset
from tests.peers.server import wait_until


class Queues:
    """A queue that gives up after two receives, its dead-letter queue, and a function that answers as a test wants it."""

    def __init__(self, url: str, visibility_s: int) -> None:
        self.sqs = client("sqs", url)
        self.dead_url = self.sqs.create_queue(QueueName="dead")["QueueUrl"]
        redrive = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 2})
        attributes = {"VisibilityTimeout": str(visibility_s), "RedrivePolicy": redrive}
        self.url = self.sqs.create_queue(QueueName="queue", Attributes=attributes)["QueueUrl"]
        self.answer: Any = {"batchItemFailures": []}
        self.fails = False
        self.received: list[list[str]] = []
        self.source = self.mapping()

    def mapping(self, **properties: Any) -> EventSource:
        given = {
            "EventSourceArn": "arn:aws:sqs:us-east-1:123456789012:queue",
            "FunctionName": "arn:function",
            "BatchSize": 10,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        }
        return EventSource(self.sqs, self, given | properties)  # type: ignore[arg-type]

    def named(self, arn: str) -> str:
        return arn.removeprefix("arn:")

    def invoke(self, function: str, event: Any) -> Result:
        assert function == "function"
        records = event["Records"]
        assert all(record["eventSource"] == "aws:sqs" and record["attributes"]["ApproximateReceiveCount"] for record in records)
        self.received.append(sorted(record["body"] for record in records))
        answer = self.answer(records) if callable(self.answer) else self.answer
        return Result(json.dumps(answer), self.fails)

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def left(self, url: str | None = None) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)["Attributes"]
        return sum(int(answer[name]) for name in names)


@pytest.fixture
def queues(server: Server, request: pytest.FixtureRequest) -> Iterator[Queues]:
    yield Queues(server.url, getattr(request, "param", 600))
    reset(server.url)


def fail_those_with(text: str) -> Any:
    return lambda records: {"batchItemFailures": [{"itemIdentifier": one["messageId"]} for one in records if text in one["body"]]}


def test_what_was_taken_is_deleted(queues: Queues) -> None:
    queues.send("a", "b")
    queues.source.poll()
    assert (queues.received, queues.left()) == ([["a", "b"]], 0)


@pytest.mark.parametrize("queues", [1], indirect=True)
def test_what_failed_is_seen_again_after_the_visibility_timeout_and_given_up_after_its_receives(queues: Queues) -> None:
    queues.send("good", "bad")
    queues.answer = fail_those_with("bad")
    wait_until(lambda: queues.source.poll() >= 0 and queues.left(queues.dead_url) == 1, "it is given up", 30)
    assert queues.received == [["bad", "good"], ["bad"]]
    assert queues.left() == 0
    (message,) = queues.sqs.receive_message(QueueUrl=queues.dead_url)["Messages"]
    assert message["Body"] == "bad"


def test_what_failed_is_not_seen_before_the_visibility_timeout(queues: Queues) -> None:
    queues.send("bad")
    queues.answer = fail_those_with("bad")
    queues.source.poll()
    assert queues.source.poll() == 0
    assert (queues.received, queues.left()) == ([["bad"]], 1)


@pytest.mark.parametrize(
    ("answer", "fails"),
    [
        ({"errorType": "RuntimeError", "errorMessage": "no"}, True),
        ({"batchItemFailures": [{"itemIdentifier": "nobody"}]}, False),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, False),
        ({"batchItemFailures": [{}]}, False),
        ({"batchItemFailures": "all"}, False),
        ("text", False),
    ],
)
def test_a_function_that_fails_or_answers_nonsense_has_taken_nothing(queues: Queues, answer: Any, fails: bool) -> None:
    queues.send("a", "b")
    queues.answer, queues.fails = answer, fails
    queues.source.poll()
    assert queues.left() == 2


def test_what_is_reported_counts_only_where_the_mapping_says_so(queues: Queues) -> None:
    queues.send("bad")
    queues.answer = fail_those_with("bad")
    queues.mapping(FunctionResponseTypes=[]).poll()
    assert (queues.received, queues.left()) == ([["bad"]], 0)


def test_an_invocation_has_no_more_messages_than_the_mapping_says(queues: Queues) -> None:
    queues.send("a", "b", "c")
    source = queues.mapping(BatchSize=2)
    assert (source.poll(), source.poll()) == (2, 1)


@pytest.mark.parametrize(("expression", "interval_s"), [("rate(5 minutes)", 300), ("rate(1 hour)", 3600), ("rate(0.5 seconds)", 0.5)])
def test_a_schedule_invokes_its_target_with_its_input_at_its_rate(queues: Queues, expression: str, interval_s: float) -> None:
    target = {"Arn": "arn:function", "Input": json.dumps({"Records": []})}
    schedule = Schedule(queues, {"ScheduleExpression": expression, "Target": target})  # type: ignore[arg-type]
    assert schedule.interval_s == interval_s
    assert not schedule.invoke().failed
    assert queues.received == [[]]


def test_a_schedule_that_is_no_rate_is_refused(queues: Queues) -> None:
    with pytest.raises(ConfigError, match=r"cron\(0 12"):
        Schedule(queues, {"ScheduleExpression": "cron(0 12 * * ? *)", "Target": {"Arn": "arn:function", "Input": "{}"}})  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}])
def test_an_answer_without_failures_has_taken_all(queues: Queues, answer: Any) -> None:
    queues.send("a", "b")
    queues.answer = answer
    queues.source.poll()
    assert queues.left() == 0


def delivered(server: Server, seed: int, *, twice: float, late: float) -> tuple[list[str], list[str]]:
    """What comes of twenty objects: bodies that are visible at once, and those that are delayed."""
    s3, sqs = client("s3", server.url), client("sqs", server.url)
    queue_url = sqs.create_queue(QueueName="events")["QueueUrl"]
    s3.create_bucket(Bucket="events")
    configuration = {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:events", "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(Bucket="events", NotificationConfiguration={"QueueConfigurations": [configuration]})
    sqs.purge_queue(QueueUrl=queue_url)
    replaced = hooks.Hooks()
    hooks.deliver_events(replaced, seed, twice=twice, late=late, latest_s=900)
    try:
        for number in range(20):
            s3.put_object(Bucket="events", Key=str(number), Body=b"")
    finally:
        replaced.restore()
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
    counts = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    at_once: list[str] = []
    while messages := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
        at_once += [json.loads(message["Body"])["Records"][0]["s3"]["object"]["key"] for message in messages]
    assert len(at_once) == int(counts["ApproximateNumberOfMessages"])
    reset(server.url)
    return sorted(at_once, key=int), [counts["ApproximateNumberOfMessagesDelayed"]]


def test_events_come_once_twice_or_late_as_chance_has_it_and_the_same_chance_for_the_same_seed(server: Server) -> None:
    every = [str(number) for number in range(20)]
    assert delivered(server, 1, twice=0, late=0) == (every, ["0"])
    assert delivered(server, 1, twice=1, late=0) == (sorted(every * 2, key=int), ["0"])
    assert delivered(server, 1, twice=0, late=1) == ([], ["20"])
    some = delivered(server, 7, twice=0.5, late=0.5)
    assert some == delivered(server, 7, twice=0.5, late=0.5)
    assert 0 < int(some[1][0]) < 40
    assert len(some[0]) + int(some[1][0]) > 20
