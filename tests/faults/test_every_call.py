"""The n-th call to S3 fails, for every n and every way to fail: whatever was acknowledged is stored, and will be imported once.

Two small scenarios for all: two instances of one study and one of another; one instance large enough to go up in parts. Then the end.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Literal, NamedTuple, get_args
from uuid import uuid4

import pytest

from fastscp.batches import Keys, Limits, Objects
from fastscp.receive.s3_objects import S3Objects
from fastscp.stores import StoreHealth
from fastscp.stores.s3 import Engine
from tests.faults.large import large_instance
from tests.faults.proxy import Call, Fault, FaultProxy, nothing
from tests.faults.receiving import LIMITS, MIB, running, send_all
from tests.faults.sweeping import ServerObjects, check_promise
from tests.peers.datasets import Made, make
from tests.stores_s3.conftest import OpenEngine
from tests.stores_s3.conftest import Place as RcloneAt
from tests.stores_s3.s3_server import S3Server

Scenario = Literal["small", "large"]

FAULTS: tuple[Fault, ...] = get_args(Fault)
LASTING: tuple[Fault, ...] = ("slow-down", "cut-answer", "reset-after-commit", "denied")
IMPATIENT = replace(LIMITS, put_deadline_s=4.0)
FOR_GOOD = {"denied", "no-such-bucket"}
"""Answers after which nothing is tried again."""
MAY_HAVE_LANDED = {fault for fault in FAULTS if fault.endswith("-after-commit")} | {"cut-answer", "cut-request"}
"""After these the server may have done what it was asked; of a request without a body nothing can be cut."""

CALLS: dict[Scenario, list[str]] = {
    "small": [
        *(f"PutObject-open-{n}" for n in (1, 2)),
        *(f"PutObject-instances-{n}" for n in (1, 2, 3)),
        *(f"PutObject-batches-{n}" for n in (1, 2)),
    ],
    "large": [
        "PutObject-open-1",
        "CreateMultipartUpload-instances-1",
        *(f"UploadPart-instances-{n}" for n in (1, 2)),
        "CompleteMultipartUpload-instances-1",
        "PutObject-batches-1",
    ],
}
"""What each scenario asks of S3, where nothing fails."""

EACH: list[tuple[Scenario, str]] = [(scenario, call) for scenario, calls in CALLS.items() for call in calls]


class Place(NamedTuple):
    proxy: FaultProxy
    engine: Engine
    objects: Objects
    """What the server has."""


@cache
def instances(scenario: Scenario) -> tuple[Made, ...]:
    if scenario == "large":
        return (large_instance(7 * MIB),)
    first = make()
    return first, make(study=first.study, series=first.series), make()


def open_behind(proxy: FaultProxy, open_at: OpenEngine) -> Engine:
    return open_at(proxy.url, attempt_timeout_s=3.0, connect_timeout_s=0.5, connection_count=64)


@pytest.fixture
def place(plain_server: S3Server, open_at: OpenEngine) -> Iterator[Place]:
    with FaultProxy(plain_server.port) as proxy:
        yield Place(proxy, open_behind(proxy, open_at), ServerObjects(plain_server))


def run(place: Place, prefix: str, scenario: Scenario, limits: Limits, *, heal: Callable[[], None] = lambda: None) -> list[Made]:
    """One scenario. Returns what was acknowledged.

    Args:
        heal: called between the last instance and the end of the receiver.
    """
    with running(place.engine, prefix, limits) as store:
        statuses = send_all(store, instances(scenario))
        heal()
    assert set(statuses) <= {0, 0xA700}
    return [made for made, status in zip(instances(scenario), statuses, strict=True) if status == 0]


def check(place: Place, prefix: str, scenario: Scenario, acknowledged: list[Made], *, landed_too: bool) -> None:
    """Both sides, counted.

    Args:
        landed_too: whether what was refused may be in the store all the same.
    """
    check_promise(place.objects, Keys(prefix), acknowledged)
    stored = sorted(listed.key.split("/", 3)[3] for listed in place.objects.list(f"{prefix}/instances/"))
    expected = sorted(made.relative_path for made in acknowledged)
    if landed_too:
        assert set(expected) <= set(stored) <= {made.relative_path for made in instances(scenario)}
    else:
        assert stored == expected


def for_each_call(run_one: Callable[[Scenario, str], None]) -> None:
    """One run for each call, all at once: most of their time they wait."""
    for scenario in CALLS:
        instances(scenario)  # Made before several threads ask for them.
    with ThreadPoolExecutor(len(EACH)) as pool:
        runs = {each: pool.submit(run_one, *each) for each in EACH}
        failed = [f"{each}: {error!r:.300}" for each, done in runs.items() if (error := done.exception()) is not None]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("scenario", CALLS)
def test_a_scenario_makes_these_calls(place: Place, plain_server: S3Server, scenario: Scenario) -> None:
    assert run(place, "calm", scenario, LIMITS) == list(instances(scenario))
    assert sorted(map(str, place.proxy.calls_of("calm"))) == sorted(CALLS[scenario])
    check(place, "calm", scenario, list(instances(scenario)), landed_too=False)
    assert not plain_server.uploads


@pytest.mark.parametrize("fault", FAULTS)
def test_each_call_fails_once(place: Place, plain_server: S3Server, fault: Fault) -> None:
    each_call_fails_once(place, fault)
    # An upload whose creation was answered, and the answer lost, cannot be aborted: nobody knows its id. It has no parts.
    assert not [upload for upload in plain_server.uploads.values() if upload.parts]
    assert not plain_server.uploads or fault in MAY_HAVE_LANDED


@pytest.mark.parametrize("rclone", ["rclone-http"], indirect=True)
@pytest.mark.parametrize("fault", ["cut-request", "internal-error", "silent"])
def test_each_call_to_another_server_fails_once(rclone: RcloneAt, open_at: OpenEngine, fault: Fault) -> None:
    """rclone verifies signatures, and keeps a request that was cut from becoming an object."""
    with FaultProxy(int(rclone.url.rsplit(":", 1)[1])) as proxy:
        objects = S3Objects(open_at(rclone.url), 30.0, StoreHealth(lambda ready, why: None))
        each_call_fails_once(Place(proxy, open_behind(proxy, open_at), objects), fault)


def each_call_fails_once(place: Place, fault: Fault) -> None:
    def run_one(scenario: Scenario, target: str) -> None:
        prefix = f"{uuid4()}-{target}"
        place.proxy.plans[prefix] = lambda call: fault if str(call) == target else None
        acknowledged = run(place, prefix, scenario, LIMITS)
        assert target in map(str, place.proxy.calls_of(prefix))
        if fault not in FOR_GOOD or "batches" in target:
            assert acknowledged == list(instances(scenario)), "a passing fault costs time, and nothing else"
        check(place, prefix, scenario, acknowledged, landed_too=fault in FOR_GOOD and "open" in target)

    for_each_call(run_one)


@pytest.mark.parametrize("fault", LASTING)
def test_from_each_call_on_all_fail_while_the_peer_sends(place: Place, fault: Fault) -> None:
    def run_one(scenario: Scenario, target: str) -> None:
        prefix = f"{uuid4()}-{target}"
        failing = False

        def plan(call: Call) -> Fault | None:
            nonlocal failing
            failing = failing or str(call) == target
            return fault if failing else None

        place.proxy.plans[prefix] = plan
        acknowledged = run(place, prefix, scenario, IMPATIENT, heal=lambda: place.proxy.plans.update({prefix: nothing}))
        check(place, prefix, scenario, acknowledged, landed_too=fault in MAY_HAVE_LANDED or "open" in target)

    for_each_call(run_one)
