"""One input, given to the native code and to its reference.

Enters: a case: target, bytes, and the seed of every decision that is not in the bytes. Leaves: nothing, or a Disagreement.
Never: a decision that the case does not repeat.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

from served import Served, success, without_committed

from fastscp._ext import dimse, head
from fastscp._ext.memory import SEGMENT_SIZES_BYTES, BufferPool
from fastscp.errors import ProtocolError
from reference import reference_dimse, reference_part10, vectors
from reference.driving import Limits, Line, Spill, ask_native, ask_reference, head_line, pieces
from reference.reference_part10 import IMPLICIT, Syntax

TARGETS = ("reader", "head", "command")
SYNTAXES = [Syntax(False, True), Syntax(True, True), Syntax(True, False)]
COMMAND_FIELDS = ("command_field", "message_id", "has_data_set", "sop_class_uid", "sop_instance_uid")
LARGEST_BYTES = SEGMENT_SIZES_BYTES[-1]


class Disagreement(Exception):
    """The native code and the reference differ, or one of them raised what it must not."""


@dataclass(frozen=True)
class Case:
    target: str
    decisions: int
    data: bytes

    @property
    def name(self) -> str:
        return f"{self.target}-{hashlib.sha256(self.to_json().encode()).hexdigest()[:12]}"

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"data": base64.b64encode(self.data).decode()})

    @classmethod
    def from_json(cls, text: str) -> Case:
        fields = json.loads(text)
        return cls(fields["target"], fields["decisions"], base64.b64decode(fields["data"]))


def seeds() -> list[Case]:
    """The golden vectors, alone and after one another."""
    streams = [*vectors.STREAMS.values(), vectors.STORE + vectors.STORE, vectors.ECHO + vectors.STORE + vectors.RELEASE_RQ]
    cases = [Case("reader", 0, stream) for stream in streams]
    for data, explicit_vr, little_endian in vectors.DATA_SETS.values():
        cases.append(Case("head", SYNTAXES.index(Syntax(explicit_vr, little_endian)), data))
    return cases + [Case("command", 0, command) for command in vectors.COMMANDS.values()]


def ask(case: Case) -> Any:
    """What the reference says. Its coverage is what guides the search."""
    if case.target == "reader":
        plan = Plan(case.decisions)
        return ask_reference([case.data], plan.limits, established=plan.established)
    if case.target == "head":
        return head_line(reference_part10.scan_head(case.data, **scan_options(case)))
    try:
        return command_fields(reference_dimse.decode_command(case.data))
    except ProtocolError:
        return "protocol error"


def check(case: Case, expected: Any) -> None:
    """Raises Disagreement where the native code says something else. Whatever else it raises is a finding too."""
    if case.target == "reader":
        check_reader(case, expected)
        return
    if case.target == "head":
        found: Any = head_line(head.scan_head(case.data, **scan_options(case)))
    else:
        try:
            found = command_fields(dimse.decode_command(case.data))
        except ProtocolError:
            found = "protocol error"
    if found != expected:
        raise Disagreement(f"{case.target}: {found} and not {expected}")


def syntax_of(case: Case) -> Syntax:
    return SYNTAXES[case.decisions % len(SYNTAXES)] if case.target == "head" else IMPLICIT


def scan_options(case: Case) -> dict[str, bool]:
    syntax = syntax_of(case)
    return {"explicit_vr": syntax.explicit_vr, "little_endian": syntax.little_endian, "last": case.decisions // len(SYNTAXES) % 4 != 1}


def command_fields(command: Any) -> tuple[Any, ...]:
    return tuple(getattr(command, name) for name in COMMAND_FIELDS)


class Plan:
    """What a reader's owner does, all from one number."""

    def __init__(self, decisions: int) -> None:
        chance = random.Random(decisions)
        self.established = chance.random() < 0.95
        self.limits = Limits(
            max_pdu_bytes=chance.choice([0, 100, 16384, 131072]),
            max_instance_bytes=chance.choice([0, 50, 1000, 100_000, 1 << 32, 1 << 32, 1 << 32]),
            spill_threshold_bytes=chance.choice([1, 100, 1000, 65536, 100_000, 1 << 30]),
        )
        self.pool_bytes = chance.choice([LARGEST_BYTES, LARGEST_BYTES, 3 * LARGEST_BYTES, 1 << 26])
        self.through_wire = chance.random() < 0.3
        self.chance = chance

    def cuts(self, size: int) -> list[int]:
        kind = self.chance.randrange(4)
        if kind == 0:
            return []
        if kind == 1 and size <= 2000:
            return list(range(size))
        return [self.chance.randrange(size + 1) for _ in range(self.chance.choice([1, 3, 20]))]


class RandomSpill(Spill):
    """Spills by either way, waits, discards; and tries what must be refused."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance

    def __call__(self, instance: Any, reader: Any, *, no_memory: bool) -> None:
        action = self.chance.choice(["views", "descriptor", "wait", "discard", "abuse"])
        if action == "abuse":
            self.abuse(instance, reader)
        if action == "discard":
            self.discard(reader)
        elif action == "descriptor":
            left = self.write(instance)
            if no_memory and not left:
                self.discard(reader)
        elif action == "views" or no_memory:
            super().__call__(instance, reader, no_memory=no_memory)

    def write(self, instance: Any) -> int:
        with tempfile.TemporaryFile() as file:
            count_bytes = int(instance.write_spillable(file.fileno()))
            self.stored += os.pread(file.fileno(), count_bytes + 1, 0)
        return count_bytes

    def abuse(self, instance: Any, reader: Any) -> None:
        expect(ValueError, instance.release)
        expect(ValueError, reader.take_instance)
        expect(ValueError, reader.take_message)
        expect(ValueError, reader.take_control_pdu)
        views = instance.segments()
        if views:
            expect(BufferError, reader.feed, b"\4")
            expect(BufferError, reader.discard)
            expect(BufferError, instance.drop_spillable, instance.spillable_bytes())
        for view in views:
            view.release()
        if instance.spillable_bytes() != 1:
            expect(ValueError, instance.drop_spillable, 1)
        instance.spill_at_bytes = self.chance.choice([1, 1000, 1 << 20])


def expect(error: type[Exception], call: Any, *arguments: Any) -> None:
    try:
        call(*arguments)
    except error:
        return
    raise Disagreement(f"{call.__name__} raised no {error.__name__}")


def check_reader(case: Case, expected: list[Line]) -> None:
    plan = Plan(case.decisions)
    pool = BufferPool(plan.pool_bytes, keep_bytes=plan.chance.choice([0, 1 << 20]))
    ceiling_bytes = min(plan.pool_bytes, 2 * len(case.data) + 4096 + LARGEST_BYTES)

    def watch(reader: Any) -> None:
        if pool.in_use_bytes > ceiling_bytes:
            raise Disagreement(f"{pool.in_use_bytes} bytes are held for a stream of {len(case.data)}")

    stream = pieces(case.data, plan.cuts(len(case.data)))
    options = {"established": plan.established, "pool": pool, "spill": RandomSpill(plan.chance), "watch": watch}
    if plan.through_wire:
        served = Served(plan.limits, **options)
        served.serve(stream)
        found, expected = served.lines, without_those_committed(served, expected)
    else:
        found = ask_native(stream, plan.limits, **options)
    if pool.in_use_bytes:
        raise Disagreement(f"{pool.in_use_bytes} bytes are held by nobody")
    if len(found) != len(expected):
        raise Disagreement(f"{len(found)} events and not {len(expected)}: ends with {found[-1][:8]} and not {expected[-1][:8]}")
    for place, (line, full) in enumerate(zip(found, expected, strict=True)):
        if not same(line, full):
            raise Disagreement(f"event {place}: {line[:9]} and not {full[:9]}")


def same(line: Line, full: Line) -> bool:
    if line[0] == full[0] == "store" and line[6] == "no_memory":
        # Only the native reader counts memory: which instances it gives up is no disagreement, what it says of them is.
        return (*line[:6], line[7]) == (*full[:6], full[7])
    return line == full


def without_those_committed(served: Served, expected: list[Line]) -> list[Line]:
    told, committed = without_committed(served.lines, expected, same)
    if served.not_committed:
        raise Disagreement(f"an ordinary instance was left to its owner: {served.not_committed[0][:8]}")
    if served.counts() != {(len(committed), sum(line[7] for line in committed))}:
        raise Disagreement(f"{len(committed)} instances were to be committed, and these are counted: {served.counts()}")
    if served.answers != b"".join(map(success, committed)):
        raise Disagreement(f"{len(served.answers)} bytes of answers to {len(committed)} instances are not the right ones")
    return told
