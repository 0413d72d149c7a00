"""What the golden documents are of, and every way in which one is spoilt. Both sides are held to the files beside this one.

Enters: nothing. Leaves: names, bytes, mutations. Never: an import of the receiver or of the functions.
"""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent
PREFIX = "hospital/ct(1)"
BUCKET = "images"
OPENED_S = 1_800_000_000.0
CLOSED_S = 1_800_000_020.123
CRC = "Q/8Y7mLx1sM="

WORKER, SWEEPER = "00112233445566aa-01a3185c5000", "ffeeddccbbaa9988-01a3185c5000"
MANIFESTS = {"manifest.worker.json": WORKER, "manifest.sweeper.json": SWEEPER}
MARKERS = {"marker.json": SWEEPER}
EVENTS = ("event.put.json", "event.inbox.json", "event.test.json")

Mutation = Callable[[dict[str, Any]], None]


def read(name: str) -> bytes:
    """A golden document: its bytes, which no newline ends."""
    return (GOLDEN / name).read_bytes()


def encode(document: Any) -> bytes:
    """As both sides write: no spaces, no escapes that are not needed."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _set(name: str, value: Any) -> Mutation:
    def mutate(document: dict[str, Any]) -> None:
        document[name] = value

    return mutate


def _set_entry(name: str, value: Any) -> Mutation:
    def mutate(document: dict[str, Any]) -> None:
        document["instances"][0][name] = value

    return mutate


def _mutations(document: dict[str, Any]) -> Iterator[tuple[str, Mutation]]:
    for member in document:
        if member != "version":
            yield f"without {member}", lambda one, member=member: one.pop(member)  # type: ignore[misc]
        wrong = {} if not isinstance(document[member], dict) else []
        yield f"{member} of another type", _set(member, wrong)
        if member != "studyDate":
            yield f"{member} null", _set(member, None)
    yield "a member more", _set("later", 1)
    yield "another version", _set("version", 2)
    yield "version as text", _set("version", "1")
    yield "another batch", _set("batchId", "00112233445566ab-01a3185c5000")
    yield "a batch id that is none", _set("batchId", "../" + document["batchId"])
    yield "no owner", _set("owner", "")
    yield "a long owner", _set("owner", "o" * 257)
    yield "another study", _set("studyInstanceUID", "../1.2")
    yield "a study that begins with a dot", _set("studyInstanceUID", ".1.2")
    yield "a date that is none", _set("studyDate", "2026-01-01")
    yield "a time without its zone", _set("openedAt", "2027-01-15T08:00:00")
    yield "a time that is none", _set("openedAt", "yesterday")
    yield "an AE title that is no text", _set("callingAeTitles", [1])


def _manifest_mutations(document: dict[str, Any]) -> Iterator[tuple[str, Mutation]]:
    yield "another study of the same form", _set("studyInstanceUID", "1.2.840.2")
    yield "closed by another", _set("closedBy", "nobody")
    yield "closed for another reason", _set("closeReason", "boredom")
    yield "one instance more than there are", _set("instanceCount", document["instanceCount"] + 1)
    yield "a count that is no whole number", _set("instanceCount", document["instanceCount"] + 0.5)
    yield "one byte less than there are", _set("totalBytes", document["totalBytes"] - 1)
    yield "no instances", lambda one: one.update(instances=[], instanceCount=0, totalBytes=0, seriesInstanceUIDs=[])
    yield "a series less", _set("seriesInstanceUIDs", document["seriesInstanceUIDs"][1:])
    yield "a series more", _set("seriesInstanceUIDs", [*document["seriesInstanceUIDs"], "1.9"])
    yield "series in another order", _set("seriesInstanceUIDs", document["seriesInstanceUIDs"][::-1])
    yield "instances that are no objects", _set("instances", ["x"] * document["instanceCount"])
    key = document["instances"][0]["key"]
    foreign = {
        "of another batch": key.replace(document["batchId"], "00112233445566ab-01a3185c5000"),
        "of another study": key.replace("/1.2.840.1/", "/1.2.840.2/"),
        "of another prefix": key.removeprefix("hospital/"),
        "outside of the instances": key.replace("/instances/", "/inbox/"),
        "with a way up": key.replace("/1.2.840.1/", "/../1.2.840.1/"),
        "with a part more": key.replace("/1.2.840.1/", "/1.2.840.1/1/"),
        "of another instance": key.replace(".dcm", "1.dcm"),
        "without its suffix": key.removesuffix(".dcm"),
        "that is too long": key + "x" * 1024,
    }
    for what, other in foreign.items():
        yield f"an object {what}", _set_entry("key", other)
    for member in document["instances"][0]:
        yield f"an instance without {member}", lambda one, member=member: one["instances"][0].pop(member)  # type: ignore[misc]
    yield "an instance with a member more", _set_entry("later", 1)
    yield "an instance of another name", _set_entry("sopInstanceUID", "1.2.840.1.9")
    yield "a size below nothing", _set_entry("size", -1)
    yield "a size that is no whole number", _set_entry("size", 1.5)
    yield "a checksum that is none", _set_entry("crc64nvme", "AAAA")
    yield "an instance twice", lambda one: one["instances"].append(one["instances"][0])
    yield (
        "an instance twice, and counted so",
        lambda one: one.update(
            instances=[*one["instances"], one["instances"][0]],
            instanceCount=one["instanceCount"] + 1,
            totalBytes=one["totalBytes"] + (one["instances"][0]["size"] or 0),
        ),
    )


def _marker_mutations(document: dict[str, Any]) -> Iterator[tuple[str, Mutation]]:
    yield "no lease", _set("leaseSeconds", 0)
    yield "a long lease", _set("leaseSeconds", 3601)
    yield "a lease as text", _set("leaseSeconds", "120")
    yield "a deadline below nothing", _set("putDeadlineSeconds", -1)
    yield "a long deadline", _set("putDeadlineSeconds", 3601)


def mutations(name: str) -> Iterator[tuple[str, bytes]]:
    """What is wrong, and a document in which it is, for one of the golden documents."""
    data = read(name)
    document = json.loads(data)
    further = _manifest_mutations(document) if name in MANIFESTS else _marker_mutations(document)
    for what, mutate in [*_mutations(document), *further]:
        spoilt = copy.deepcopy(document)
        mutate(spoilt)
        if encode(spoilt) == data:
            raise AssertionError(f"{what}: nothing is changed")
        yield what, encode(spoilt)
    yield "nothing", b""
    yield "half of it", data[: len(data) // 2]
    yield "all but its end", data[:-1]
    yield "something behind it", data + b"x"
    yield "a list", b"[" + data + b"]"
    yield "text", encode(data.decode())
    yield "no number", data.replace(b'"version":1', b'"version":NaN')
    yield "not UTF-8", data.replace(b'"owner":"', b'"owner":"\xff')
    yield "deep", b"[" * 100_000


def accepted(name: str, decode: Callable[[bytes], object]) -> list[str]:
    """What is wrong with those spoilt documents that a reader takes all the same."""
    taken = []
    for what, data in mutations(name):
        try:
            decode(data)
        except (ValueError, RecursionError):
            continue
        taken.append(what)
    return taken
