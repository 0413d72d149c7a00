"""Where moto is told what it cannot know: how functions run, how events arrive, where it is itself.

Enters: moto as it is installed. Leaves: moto with functions replaced, until they are put back.
Never: a change to the language of state machines, or to what a service stores.
"""

import json
import random
import threading
from typing import Any

from botocore.config import Config
from moto.awslambda.models import LambdaFunction
from moto.s3 import notifications
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.asl.utils import boto_client

from fastscp.local.functions import Functions
from fastscp.local.wiring import session


class Hooks:
    """What is replaced in moto, and how to put it back."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def restore(self) -> None:
        while self._replaced:
            owner, name, value = self._replaced.pop()
            setattr(owner, name, value)


def run_functions(hooks: Hooks, functions: Functions) -> None:
    """Lambda: moto would run functions in Docker."""

    def invoke(function: Any, event: Any = None) -> tuple[str, bool, str]:
        # moto hands on text or what it has parsed already.
        result = functions.invoke(function.function_name, json.loads(event) if isinstance(event, str | bytes) else event or {})
        return result.payload, result.failed, ""

    hooks.replace(LambdaFunction, "_invoke_lambda", invoke)


def reach_server(hooks: Hooks, url: str) -> None:
    """Step Functions: moto would look for itself on port 5000, and make a client for each task."""
    made: dict[str, Any] = {}
    lock = threading.Lock()

    class Clients:
        @staticmethod
        def client(service_name: str, region_name: str, config: Config, **_others: Any) -> Any:
            with lock:
                if service_name not in made:
                    made[service_name] = session().client(
                        service_name,
                        region_name=region_name,
                        endpoint_url=url,
                        config=config.merge(Config(max_pool_connections=256)),
                    )
                return made[service_name]

    hooks.replace(boto_client, "boto3", Clients)


def deliver_events(hooks: Hooks, seed: int | None, *, twice: float, late: float, latest_s: int) -> None:
    """S3: events arrive at least once, some twice, some late, in any order; moto sends each once and at once.

    Args:
        twice: probability that an event is delivered again.
        late: probability that a delivery is delayed.
        latest_s: longest delay, in whole seconds.
    """
    source = random.Random(seed)  # noqa: S311 - chance, not secrets
    lock = threading.Lock()

    def send(account_id: str, event_body: Any, queue_name: str, region_name: str) -> None:
        backend = sqs_backends[account_id][region_name]
        with lock:
            delays = [source.randint(1, latest_s) if source.random() < late else 0 for _ in range(2 if source.random() < twice else 1)]
        for delay_s in delays:
            backend.send_message(queue_name=queue_name, message_body=json.dumps(event_body), delay_seconds=delay_s)

    hooks.replace(notifications, "_send_sqs_message", send)
