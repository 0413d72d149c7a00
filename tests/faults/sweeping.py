"""The sweeper as docs/batches.md has it, over any object store; and the promise that all tests here are about.

Enters: what is in the store, what was acknowledged. Leaves: manifests for what workers left behind. Never: an import.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from fastscp.batches import Keys, Listed, Objects
from fastscp.batches.closing import manifest_from_listing
from fastscp.batches.manifest import Manifest, decode_manifest, encode_manifest
from fastscp.batches.marker import decode_marker
from fastscp.batches.sweep import sweep_action
from tests.peers.datasets import Made
from tests.stores_s3.s3_server import S3Server, Stored

LATER_S = 100_000.0


class ServerObjects:
    """The object store of the tests' own server, seen from inside."""

    def __init__(self, server: S3Server) -> None:
        self._server = server

    def put(self, key: str, data: bytes) -> None:
        with self._server.lock:
            self._server.objects[key] = Stored(data, {}, "")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._server.lock:
            if key in self._server.objects:
                return False
            self._server.objects[key] = Stored(data, {}, "")
            return True

    def delete(self, key: str) -> None:
        with self._server.lock:
            self._server.objects.pop(key, None)

    def list(self, prefix: str) -> Iterator[Listed]:
        with self._server.lock:
            found = [
                Listed(key, len(each.body), float(int(each.modified_s)))
                for key, each in self._server.objects.items()
                if key.startswith(prefix)
            ]
        yield from sorted(found)

    def get(self, key: str) -> bytes | None:
        with self._server.lock:
            return self._server.objects[key].body if key in self._server.objects else None


def sweep(objects: Objects, keys: Keys, now_s: float) -> int:
    """Once through all markers. Returns how many batches the sweeper closed or cleared away."""
    done = 0
    for listed in list(objects.list(keys.open)):
        data = objects.get(listed.key)
        if data is None:
            continue
        marker = decode_marker(keys, listed.key, data)
        manifest_key = keys.manifest(marker.batch_id)
        has_manifest = objects.get(manifest_key) is not None
        if sweep_action(marker, listed.modified_s, has_manifest=has_manifest, import_started=False, now_s=now_s) != "close":
            continue
        done += 1
        manifest = manifest_from_listing(marker, objects.list(keys.instances(marker.batch_id)), keys, now_s)
        if manifest is None:
            objects.delete(listed.key)
        else:
            objects.put_if_absent(manifest_key, encode_manifest(manifest))
    return done


def manifests(objects: Objects, keys: Keys) -> list[Manifest]:
    """All that there are."""
    return [decode_manifest(keys, listed.key, objects.get(listed.key) or b"") for listed in objects.list(keys.batches)]


def check_promise(objects: Objects, keys: Keys, acknowledged: Iterable[Made], *, later_s: float = LATER_S) -> list[Manifest]:
    """Each acknowledged instance is in the store as it was sent, and in exactly one manifest or under a marker that the sweeper closes.

    Returns all manifests, those of the sweeper included, which comes `later_s` from now.
    """
    acknowledged = list(acknowledged)
    counted = Counter(made.sop_instance for made in acknowledged)
    before = Counter(entry.sop_instance_uid for manifest in manifests(objects, keys) for entry in manifest.instances)
    for made in acknowledged:
        if not before[made.sop_instance]:
            stored = [listed.key for listed in objects.list(keys.instances("")[:-1]) if listed.key.endswith(made.relative_path)]
            batches = [key.split("/")[-4] for key in stored]
            assert any(objects.get(keys.marker(batch)) is not None for batch in batches), "acknowledged, and neither listed nor marked"
    sweep(objects, keys, time.time() + later_s)
    written = manifests(objects, keys)
    listed_in = Counter(entry.sop_instance_uid for manifest in written for entry in manifest.instances)
    assert {uid: listed_in[uid] for uid in counted} == dict(counted), "acknowledged, and not in exactly one manifest"
    content = {made.sop_instance: made.data_set for made in acknowledged}
    for manifest in written:
        for entry in manifest.instances:
            body = objects.get(entry.key)
            assert body is not None
            assert entry.size in (None, len(body))
            if entry.sop_instance_uid in content:
                assert body.endswith(content[entry.sop_instance_uid]), "another content than was acknowledged"
    return written
