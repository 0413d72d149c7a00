"""Whatever fails, crashes, sleeps or overlaps: what was acknowledged is imported, once.

The model is a dictionary of what was acknowledged and what may be under its key, and the rules of docs/batches.md.
"""

import base64
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, currently_in_test_context, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastscp.batches import Arrival, Batches, Keys, Limits, Ticket
from fastscp.batches.closing import manifest_from_listing
from fastscp.batches.manifest import Manifest, decode_manifest, encode_manifest
from fastscp.batches.marker import Marker, decode_marker
from fastscp.batches.sweep import CLOCK_SKEW_S, sweep_action
from fastscp.errors import RefusedError, StoreError
from tests.batches.simulation import Job, Outcome, SteppedObjects, World, Write, finish, happen, leave

KEYS = Keys("store")
LIMITS = Limits(instances=3, size_bytes=100)
SKEWS = st.sampled_from([-CLOCK_SKEW_S / 2 + 1, 0.0, CLOCK_SKEW_S / 2 - 1])
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(["ok", "ok", "ok", "ok", "lost", "landed", "late"])
PICK = st.integers(0, 1_000)


def checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()[:8]).decode()


@dataclass(eq=False)
class Send:
    """One C-STORE, from its joining a batch to its answer."""

    ticket: Ticket
    content: bytes
    began_at_s: float | None = None
    began_with_lease: bool = False
    landed: bool = False

    @property
    def batch_id(self) -> str:
        return self.ticket.key.split("/")[2]


@dataclass(eq=False)
class Worker:
    """One process: all of it is lost in a crash."""

    world: World
    name: str
    replace: bool
    skew_s: float
    jobs: list[Job] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    draining: bool = False
    batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        self.batches = Batches(
            SteppedObjects(self.world),
            KEYS,
            LIMITS,
            owner=self.name,
            replace=self.replace,
            clock=self.clock,
            entropy=random.Random(self.name).randbytes,
            submit=lambda function: self.jobs.append(Job(function)),
            wait_s=0.0,
        )

    def clock(self) -> float:
        return self.world.now_s + self.skew_s


@dataclass(eq=False)
class Sweep:
    """One marker that a sweeper has decided to close."""

    marker: Marker
    manifest: Manifest | None = None
    listed: bool = False


class BatchLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(on_change=self.changed)
        self.acknowledged: dict[str, str] = {}
        """Batch id by key, of all that was acknowledged."""
        self.possible: dict[str, set[bytes]] = {}
        """What may be under a key that was acknowledged: the last content acknowledged, or a later one that nobody was promised."""
        self.manifests: dict[str, Manifest] = {}
        self.started: set[str] = set()
        self.sweeps: list[Sweep] = []
        self.gone: list[Send] = []
        """What was under way when its worker crashed or its peer was told of a failure."""
        self.workers: list[Worker] = []
        self.count = 0
        self.seen: Counter[str] = Counter()

    @initialize(replace=st.booleans(), skews=st.tuples(SKEWS, SKEWS), store_skew_s=SKEWS)
    def start(self, replace: bool, skews: tuple[float, float], store_skew_s: float) -> None:
        self.world.store_skew_s = store_skew_s
        self.replace = replace
        for skew_s in skews:
            self.workers.append(self.new_worker(skew_s))

    def teardown(self) -> None:
        if self.workers:
            self.everything_ends()

    # What happens.

    @rule(
        which=PICK,
        study=st.sampled_from(["1.1", "1.2"]),
        series=st.sampled_from(["2.1", "2.1", "2.1", "2.2"]),
        instance=st.integers(1, 4),
        size_bytes=st.sampled_from([20, 20, 40, 60]),
        alone=st.sampled_from([False, False, False, False, True]),
        far=st.sampled_from(["joined", "begun", "acknowledged", "acknowledged", "acknowledged"]),
    )
    def send(self, which: int, study: str, series: str, instance: int, size_bytes: int, alone: bool, far: str) -> None:
        worker = self.workers[which % len(self.workers)]
        self.count += 1
        arrival = Arrival(study, series, f"{study}.{instance}", "20260101", "MODALITY", "FASTSCP", f"association-{self.count}")
        try:
            ticket = worker.batches.join(arrival, None if alone else size_bytes)
        except StoreError:
            same = [send for send in worker.sends if send.ticket.key.endswith(f"/{study}.{instance}.dcm")]
            assert worker.draining or same, "refused although nothing else was under way"
            self.saw("join: wait")
            return
        except RefusedError as refused:
            assert (refused.status, self.replace) == (0xC000, False)  # noqa: PT017
            assert any(key.endswith(f"/{study}.{instance}.dcm") for key in self.acknowledged), "a duplicate of nothing"
            self.saw("join: duplicate")
            return
        assert not worker.draining
        assert ticket.key not in {send.ticket.key for send in worker.sends}, "two writes to one key at a time"
        content = f"{self.count:08d}".encode().ljust(size_bytes, b".")
        send = Send(ticket, content)
        worker.sends.append(send)
        if far != "joined":
            self.begin(worker, send)
        if far == "acknowledged":
            self.jobs_end_well(which)
            self.land(send)
            self.end(worker, send)

    @rule(which=PICK, pick=PICK)
    def begin_put(self, which: int, pick: int) -> None:
        worker = self.workers[which % len(self.workers)]
        waiting = [send for send in worker.sends if send.began_at_s is None]
        if waiting:
            self.begin(worker, waiting[pick % len(waiting)])

    def begin(self, worker: Worker, send: Send) -> None:
        send.began_at_s = self.world.now_s
        send.began_with_lease = send.ticket._batch.lease.holds(worker.clock())
        if send.ticket.key in self.possible:
            self.possible[send.ticket.key].add(send.content)

    @rule(which=PICK, pick=PICK)
    def put_lands(self, which: int, pick: int) -> None:
        sends = [send for worker in self.workers for send in worker.sends] + self.gone
        flying = [send for send in sends if send.began_at_s is not None and not send.landed]
        if flying:
            self.land(flying[pick % len(flying)])

    @rule(which=PICK, pick=PICK, fails=st.sampled_from([False, False, False, True]), lost=st.booleans(), hurry=st.integers(0, 9))
    def put_ends(self, which: int, pick: int, fails: bool, lost: bool, hurry: int) -> None:
        worker = self.workers[which % len(self.workers)]
        begun = [send for send in worker.sends if send.began_at_s is not None]
        if not begun:
            return
        send = begun[pick % len(begun)]
        if fails:
            worker.sends.remove(send)
            may_have_landed = send.landed or not lost
            send.ticket.failed(may_have_landed=may_have_landed)
            if not may_have_landed and send.ticket.key in self.possible:
                self.possible[send.ticket.key].discard(send.content)
            if may_have_landed and not send.landed:
                self.gone.append(send)
            self.saw("put: failed")
            return
        if not send.ticket._batch.lease.settled and hurry:
            return
        if not send.landed:
            self.land(send)
        if send.landed:
            self.end(worker, send)

    def end(self, worker: Worker, send: Send) -> None:
        worker.sends.remove(send)
        try:
            send.ticket.committed(len(send.content), checksum(send.content))
        except StoreError as error:
            self.saw(f"put: {error.problem}")
            return
        self.acknowledged[send.ticket.key] = send.batch_id
        self.possible[send.ticket.key] = {send.content}
        self.saw("put: acknowledged")

    @rule(which=PICK)
    def tick(self, which: int) -> None:
        worker = self.workers[which % len(self.workers)]
        worker.batches.tick(worker.clock())

    @rule(which=PICK, pick=PICK, outcome=OUTCOMES)
    def job_goes_on(self, which: int, pick: int, outcome: Outcome) -> None:
        worker = self.workers[which % len(self.workers)]
        if worker.jobs:
            self.run(worker, worker.jobs[pick % len(worker.jobs)], outcome)

    @rule(which=PICK)
    def jobs_end_well(self, which: int) -> None:
        worker = self.workers[which % len(self.workers)]
        while worker.jobs:
            self.run(worker, worker.jobs[0], "ok")

    @rule(which=PICK, pick=PICK)
    def job_writes_unheard(self, which: int, pick: int) -> None:
        worker = self.workers[which % len(self.workers)]
        if worker.jobs:
            happen(self.world, worker.jobs[pick % len(worker.jobs)])

    @rule(pick=PICK)
    def late_write_lands(self, pick: int) -> None:
        if self.world.on_its_way:
            self.world.land(pick % len(self.world.on_its_way))

    @rule(duration_s=st.sampled_from([1.0, 6.0, 16.0, 31.0, 61.0, 95.0, 125.0, 215.0, 700.0]))
    def time_passes(self, duration_s: float) -> None:
        until_s = self.world.now_s + duration_s
        sends = [send for worker in self.workers for send in worker.sends] + self.gone
        for send in sorted((send for send in sends if send.began_at_s is not None), key=lambda send: send.began_at_s or 0.0):
            # Nothing is on its way for longer than the PUT deadline; every second one is lost instead of being late.
            deadline_s = (send.began_at_s or 0.0) + LIMITS.put_deadline_s
            if not send.landed and deadline_s <= until_s and send.content[7] % 2:
                self.world.now_s = max(self.world.now_s, deadline_s)
                self.land(send)
        self.world.now_s = until_s

    @rule(which=PICK, skew_s=SKEWS)
    def clock_is_set(self, which: int, skew_s: float) -> None:
        self.workers[which % len(self.workers)].skew_s = skew_s

    @rule(which=PICK, skew_s=SKEWS, outcomes=st.lists(OUTCOMES, min_size=8, max_size=8))
    def worker_crashes(self, which: int, skew_s: float, outcomes: list[Outcome]) -> None:
        index = which % len(self.workers)
        worker = self.workers[index]
        self.workers[index] = self.new_worker(skew_s)
        for job, outcome in zip(worker.jobs, itertools.cycle(outcomes), strict=False):
            leave(self.world, job, outcome)
            job.kill()
        self.gone += [send for send in worker.sends if send.began_at_s is not None]

    @rule(which=PICK)
    def worker_drains(self, which: int) -> None:
        worker = self.workers[which % len(self.workers)]
        worker.draining = True
        worker.batches.drain(0.0)

    # The sweeper, two at once, and the workflow.

    @rule(skew_s=SKEWS)
    def sweeper_looks(self, skew_s: float) -> None:
        now_s = self.world.now_s + skew_s
        for listed in self.world.list(KEYS.open):
            marker = decode_marker(KEYS, listed.key, self.world.objects[listed.key][0])
            has_manifest = self.world.get(KEYS.manifest(marker.batch_id)) is not None
            started = marker.batch_id in self.started
            action = sweep_action(marker, listed.modified_s, has_manifest=has_manifest, import_started=started, now_s=now_s)
            self.saw(f"sweep: {action}")
            if action == "close":
                self.sweeps.append(Sweep(marker))
            elif action == "start_import":
                self.started.add(marker.batch_id)
            elif action == "delete_marker":
                self.world.apply(Write("delete", listed.key, b"", now_s))

    @rule(pick=PICK, outcome=OUTCOMES)
    def sweeper_goes_on(self, pick: int, outcome: Outcome) -> None:
        if not self.sweeps:
            return
        sweep = self.sweeps[pick % len(self.sweeps)]
        if not sweep.listed:
            listing = self.world.list(KEYS.instances(sweep.marker.batch_id))
            sweep.manifest = manifest_from_listing(sweep.marker, listing, KEYS, self.world.now_s)
            sweep.listed = True
            return
        self.sweeps.remove(sweep)
        if sweep.manifest is None:
            write = Write("delete", KEYS.marker(sweep.marker.batch_id), b"", self.world.now_s)
        else:
            write = Write("put_if_absent", KEYS.manifest(sweep.marker.batch_id), encode_manifest(sweep.manifest), self.world.now_s)
        if outcome in ("ok", "landed"):
            self.world.apply(write)
        elif outcome == "late":
            self.world.on_its_way.append(write)

    @rule(pick=PICK, deletes=st.booleans())
    def import_starts(self, pick: int, deletes: bool) -> None:
        if self.manifests:
            batch_id = list(self.manifests)[pick % len(self.manifests)]
            self.started.add(batch_id)
            if deletes:
                self.world.apply(Write("delete", KEYS.marker(batch_id), b"", self.world.now_s))

    # What has to hold.

    def changed(self, key: str, before: bytes | None, after: bytes | None) -> None:
        batch_id = KEYS.batch_of_manifest(key)
        if batch_id is None:
            return
        assert before is None, "a manifest changed"
        assert after is not None
        manifest = decode_manifest(KEYS, key, after)
        self.manifests[batch_id] = manifest
        self.saw(f"closed by {manifest.closed_by}: {manifest.close_reason}")
        if manifest.closed_by == "worker":
            assert {entry.key for entry in manifest.instances} <= set(self.acknowledged), "an instance that nobody was promised"

    @invariant()
    def acknowledged_is_in_one_manifest_or_under_a_marker(self) -> None:
        listed: dict[str, list[str]] = {}
        for batch_id, manifest in self.manifests.items():
            for entry in manifest.instances:
                listed.setdefault(entry.key, []).append(batch_id)
        for key, batch_id in self.acknowledged.items():
            assert key in self.world.objects, "acknowledged and not there"
            assert self.world.objects[key][0] in self.possible[key], "another content than was acknowledged"
            if batch_id in self.manifests:
                assert listed.get(key) == [batch_id], "acknowledged and not in the manifest of its batch, or in others"
            else:
                marker = self.world.get(KEYS.marker(batch_id))
                assert marker is not None, "acknowledged and under no marker"
                found = manifest_from_listing(
                    decode_marker(KEYS, KEYS.marker(batch_id), marker),
                    self.world.list(KEYS.instances(batch_id)),
                    KEYS,
                    self.world.now_s,
                )
                assert found is not None
                assert key in {entry.key for entry in found.instances}, "acknowledged and not closable"

    @invariant()
    def manifests_tell_the_truth(self) -> None:
        for manifest in self.manifests.values():
            assert KEYS.manifest(manifest.batch_id) in self.world.objects, "a manifest is gone"
            if manifest.batch_id not in self.started and manifest.batch_id in self.acknowledged.values():
                assert KEYS.marker(manifest.batch_id) in self.world.objects, "nobody is going to start the import"
            for entry in manifest.instances:
                assert entry.key in self.world.objects, "in the manifest and not there"
                content = self.world.objects[entry.key][0]
                if manifest.closed_by == "worker" and entry.size is not None:
                    assert (entry.size, entry.crc64nvme) == (len(content), checksum(content))

    @invariant()
    def a_batch_is_no_more_than_an_import_job_takes(self) -> None:
        sizes: dict[str, list[int]] = {}
        for listed in self.world.list("store/instances/"):
            sizes.setdefault(listed.key.split("/")[2], []).append(listed.size_bytes)
        for batch_sizes in sizes.values():
            assert len(batch_sizes) <= LIMITS.instances
            assert sum(batch_sizes) <= LIMITS.size_bytes

    # How.

    def saw(self, what: str) -> None:
        self.seen[what] += 1
        if currently_in_test_context():
            event(what)

    def new_worker(self, skew_s: float) -> Worker:
        self.count += 1
        return Worker(self.world, f"worker-{self.count}", self.replace, skew_s)

    def run(self, worker: Worker, job: Job, outcome: Outcome) -> None:
        finish(self.world, job, outcome)
        if job.done:
            worker.jobs.remove(job)

    def land(self, send: Send) -> None:
        assert send.began_at_s is not None
        if self.world.now_s > send.began_at_s + LIMITS.put_deadline_s:
            return
        closed = self.manifests.get(send.batch_id)
        if closed is not None and closed.closed_by == "sweeper":
            assert not send.began_with_lease, "a PUT that began with a lease landed after the sweep"
            self.saw("landed after the sweep")
        send.landed = True
        self.world.apply(Write("put", send.ticket.key, send.content, send.began_at_s))

    def everything_ends(self) -> None:
        """No worker is left, and the sweeper does the rest."""
        for worker in self.workers:
            for job in worker.jobs:
                job.kill()
            self.gone += [send for send in worker.sends if send.began_at_s is not None]
        while self.world.on_its_way:
            self.world.land(0)
        for _ in range(3):
            self.time_passes(700.0)
            self.sweeper_looks(0.0)
            while self.sweeps:
                self.sweeper_goes_on(0, "ok")
        assert not self.world.list(KEYS.open), "a marker that nobody ever deletes"
        assert set(self.acknowledged.values()) <= set(self.manifests), "acknowledged and never imported"
        self.check()

    def check(self) -> None:
        """All that has to hold."""
        self.acknowledged_is_in_one_manifest_or_under_a_marker()
        self.manifests_tell_the_truth()
        self.a_batch_is_no_more_than_an_import_job_takes()


TestBatchLife = BatchLife.TestCase
TestBatchLife.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


WALKS = 150
STEPS = 200
MUST_BE_SEEN = {
    "put: acknowledged",
    "put: failed",
    "put: the lease of the batch is lost",
    "put: the wait for the marker of the batch was too long",
    "join: wait",
    "join: duplicate",
    "landed after the sweep",
    "sweep: wait",
    "sweep: close",
    "sweep: start_import",
    "sweep: delete_marker",
    "closed by sweeper: lease",
    *(f"closed by worker: {reason}" for reason in ("quiet", "count", "bytes", "age", "spilled", "repeat", "drain")),
}


def walk(seed: int, steps: int) -> Counter[str]:
    """One long random life, weighted towards what is ordinary. Returns what was seen."""
    chance = random.Random(seed)
    machine = BatchLife()

    def pick() -> int:
        return chance.randrange(1_000)

    def outcome() -> Outcome:
        return chance.choice(["ok"] * 6 + ["lost", "landed", "late"])

    def skew_s() -> float:
        return chance.uniform(-CLOCK_SKEW_S / 2, CLOCK_SKEW_S / 2 - 1)

    def which() -> int:
        return chance.choice([index for index in range(2) if index != stopped])

    def send() -> None:
        far = chance.choice(["joined", "begun", "acknowledged", "acknowledged"])
        study, series = chance.choice(["1.1", "1.2"]), chance.choice(["2.1"] * 9 + ["2.2"])
        machine.send(which(), study, series, chance.randint(1, 4), chance.choice([20, 20, 20, 40, 60]), chance.random() < 0.1, far)

    ordinary: list[Callable[[], None]] = [
        send,
        send,
        send,
        lambda: machine.begin_put(which(), pick()),
        lambda: machine.put_lands(pick(), pick()),
        lambda: machine.put_ends(which(), pick(), chance.random() < 0.2, chance.random() < 0.3, chance.randrange(10)),
        lambda: machine.put_ends(which(), pick(), False, False, 1),
        lambda: machine.tick(which()),
        lambda: machine.job_goes_on(which(), pick(), outcome()),
        lambda: machine.job_goes_on(which(), pick(), outcome()),
        lambda: machine.time_passes(chance.choice([0.5, 1.0, 6.0, 16.0, 31.0])),
    ]
    rare: list[Callable[[], None]] = [
        lambda: machine.jobs_end_well(which()),
        lambda: machine.job_writes_unheard(which(), pick()),
        lambda: machine.late_write_lands(pick()),
        lambda: machine.time_passes(chance.choice([61.0, 95.0, 125.0, 215.0, 600.0])),
        lambda: machine.clock_is_set(which(), skew_s()),
        lambda: machine.sweeper_looks(skew_s()),
        lambda: machine.sweeper_goes_on(pick(), outcome()),
        lambda: machine.sweeper_goes_on(pick(), outcome()),
        lambda: machine.import_starts(pick(), chance.random() < 0.5),
    ]
    fatal: list[Callable[[], None]] = [
        lambda: machine.worker_crashes(which(), skew_s(), [outcome() for _ in range(8)]),
        lambda: machine.worker_crashes(which(), skew_s(), [outcome() for _ in range(8)]),
        lambda: machine.worker_drains(which()),
    ]
    stopped = None
    machine.start(chance.random() < 0.6, (skew_s(), skew_s()), skew_s())
    for _ in range(steps):
        # Now and then a worker stands still for a while, as one does that is stopped or starved, and goes on as if nothing had been.
        if chance.random() < 0.03:
            stopped = chance.choice([None, 0, 1])
        kind = rare if stopped is not None and chance.random() < 0.4 else chance.choices([ordinary, rare, fatal], [85, 13, 2])[0]
        chance.choice(kind)()
        machine.check()
    machine.everything_ends()
    return machine.seen


def test_long_lives_keep_what_was_acknowledged() -> None:
    seen: Counter[str] = Counter()
    for seed in range(WALKS):
        try:
            seen += walk(seed, STEPS)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    # A walk that never comes where it could go wrong shows nothing.
    assert set(seen) >= MUST_BE_SEEN, MUST_BE_SEEN - set(seen)
