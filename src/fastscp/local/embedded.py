"""The embedded AWS: all services of one account in this process, and the processes that run its functions.

Enters: options. Leaves: an endpoint. Never: two in one process at one time: moto keeps its state in its modules.
"""

import contextlib
import json
import tempfile
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fastscp.local import hooks, wiring
from fastscp.local.deployed import functions_directory, templates_directory
from fastscp.local.event_source import EventSource, Schedule
from fastscp.local.functions import Functions
from fastscp.local.healthimaging import Clock, HealthImaging, Limits
from fastscp.local.objects import EmbeddedObjects
from fastscp.local.server import Server
from fastscp.local.snapshot import Snapshot
from fastscp.local.stack import Pace, functions_of, local_stack, receiver_environment
from fastscp.local.templates import Resolved


@dataclass(frozen=True, kw_only=True)
class EmbeddedOptions:
    """How the embedded AWS behaves.

    Attributes:
        port: of the endpoint; 0 takes a free one.
        limits: of HealthImaging.
        clock_scale: how much faster HealthImaging's time passes.
        seed: of what is left to chance: late and repeated events, ids. With data that is kept it must not be the same twice.
        pace: how much sooner than in AWS things happen.
        events_twice, events_late, events_latest_s: see `hooks.deliver_events`.
        function_processes: most invocations at one time.
        data: directory that keeps what is stored from one run to the next.
        templates: directory of the templates that say what there is.
    """

    port: int = 0
    limits: Limits = field(default_factory=Limits)
    clock_scale: float = 1.0
    seed: int | None = None
    pace: Pace = field(default_factory=Pace)
    events_twice: float = 0.1
    events_late: float = 0.1
    events_latest_s: int = 3
    function_processes: int = 2
    data: Path | None = None
    templates: Path = field(default_factory=templates_directory)


class EmbeddedAws:
    """Runs between `__enter__` and `__exit__`.

    Attributes:
        url: the endpoint of all services.
        healthimaging: the service, for what its API does not tell.
        objects: the objects in S3, without HTTP.
        datastore_id: of the data store into which is imported.
        resolved: the stack that was made.
        receiver_environment: what a receiver has to be told to store here, beside `wiring.aws_environment`.
        functions, sources, schedules: what runs.
        function_log: what the functions wrote.
    """

    url: str
    datastore_id: str
    resolved: Resolved
    receiver_environment: dict[str, str]
    functions: Functions
    sources: list[EventSource]
    schedules: list[Schedule]
    function_log: Path

    def __init__(self, options: EmbeddedOptions | None = None) -> None:
        self._options = options or EmbeddedOptions()
        self._stack = contextlib.ExitStack()
        self._snapshot = Snapshot(self._options.data) if self._options.data is not None else None
        self.objects = EmbeddedObjects()
        limits, clock = self._options.limits, Clock(self._options.clock_scale)
        self.healthimaging = HealthImaging(self.objects, limits=limits, clock=clock, seed=self._options.seed)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def client(self, service: str) -> Any:
        """A boto3 client."""
        return wiring.client(service, self.url)

    def _start(self, stack: contextlib.ExitStack) -> None:
        options = self._options
        code = functions_directory()
        server = Server(self.healthimaging, options.port)
        stack.callback(server.stop)
        server.start()
        self.url = server.url
        self._configure("config", {"stepfunctions": {"execute_state_machine": True}})
        stack.callback(self._configure, "reset", {})
        stack.callback(self.healthimaging.stop)
        self.datastore_id = self._datastore()

        self.resolved = local_stack(options.templates, self.datastore_id, options.pace, wiring.aws_environment(self.url))
        self.receiver_environment = receiver_environment(self.resolved)

        self.function_log = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastscp-"))) / "functions.log"
        self.functions = Functions(code, functions_of(self.resolved), self.function_log, options.function_processes)
        stack.callback(self.functions.stop)
        self._hook(stack)

        wiring.create_resources(self.resolved, self.url, options.templates)
        if self._snapshot is not None:
            self._snapshot.restore(self.objects, self.client("dynamodb"))
            stack.callback(self._save)
        self.healthimaging.start()
        mappings = self.resolved.of_type("AWS::Lambda::EventSourceMapping")
        self.sources = [EventSource(self.client("sqs"), self.functions, mapping.properties) for mapping in mappings]
        self.schedules = [Schedule(self.functions, one.properties) for one in self.resolved.of_type("AWS::Scheduler::Schedule")]
        parts: list[EventSource | Schedule] = [*self.sources, *self.schedules]
        for part in parts:
            stack.callback(part.stop)
            part.start()

    def _datastore(self) -> str:
        kept = self._snapshot.state() if self._snapshot is not None else None
        if kept is None:
            return self.healthimaging.add_datastore("fastscp")
        self.healthimaging.restore(kept)
        return next(iter(kept.datastores))

    def _save(self) -> None:
        if self._snapshot is not None:
            self.healthimaging.stop()
            self._snapshot.save(self.objects, self.client("dynamodb"), self.healthimaging)

    def _hook(self, stack: contextlib.ExitStack) -> None:
        options, replaced = self._options, hooks.Hooks()
        stack.callback(replaced.restore)
        hooks.run_functions(replaced, self.functions)
        hooks.reach_server(replaced, self.url)
        hooks.deliver_events(replaced, options.seed, twice=options.events_twice, late=options.events_late, latest_s=options.events_latest_s)

    def _configure(self, what: str, values: dict[str, Any]) -> None:
        body = json.dumps(values).encode()
        request = urllib.request.Request(  # noqa: S310 - http, to this process
            f"{self.url}/moto-api/{what}", body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310
            pass
