"""What is stored, kept in a directory from one run to the next.

Enters: an embedded AWS that starts or ends, a directory. Leaves: files, or the same objects, rows, jobs and image sets as before.
Never: a half-written snapshot in the place of a whole one.
"""

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from fastscp.errors import CommandError, ConfigError
from fastscp.local.healthimaging.service import HealthImaging, State
from fastscp.local.objects import EmbeddedObjects

_NEW, _OLD, _CURRENT = "new", "old", "current"
# Quoting writes two digits behind each of its own: this is an empty part, or the end of a file that has the name of a directory.
_MARK = "%"


class Snapshot:
    """The snapshot in one directory.

    Kept are objects (content, not their metadata), the rows of the tables, the data store with its jobs and image sets. Messages of
    queues and executions are not: the sweeper starts anew what was under way.

    Raises ConfigError where the directory cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # The last save may have been cut short between its two steps.
            if not (directory / _CURRENT).exists() and (directory / _OLD).exists():
                (directory / _OLD).rename(directory / _CURRENT)
            shutil.rmtree(directory / _NEW, ignore_errors=True)
        except OSError as error:
            raise ConfigError("--data", f"cannot use {str(directory)!r}: {error.strerror}") from error

    def state(self) -> State | None:
        """What HealthImaging had, None where nothing was kept yet. Raises ConfigError."""
        path = self._directory / _CURRENT / "healthimaging.json"
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=State)
        except msgspec.DecodeError as error:
            raise ConfigError("--data", f"{str(path)!r} is not of this version: {error}") from error

    def restore(self, objects: EmbeddedObjects, dynamodb: Any) -> None:
        """Put objects into buckets and rows into tables, all of which exist."""
        root = self._directory / _CURRENT
        for bucket in objects.buckets():
            for path in sorted((root / "s3" / bucket).rglob("*")):
                if path.is_file():
                    objects.write(bucket, _key(path.relative_to(root / "s3" / bucket)), path.read_bytes())
        for path in sorted((root / "dynamodb").glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                dynamodb.put_item(TableName=path.stem, Item=json.loads(line))

    def save(self, objects: EmbeddedObjects, dynamodb: Any, healthimaging: HealthImaging) -> None:
        """Write all there is, then let it take the place of what was kept before. Raises CommandError."""
        try:
            self._save(self._directory / _NEW, objects, dynamodb, healthimaging)
        except OSError as error:
            raise CommandError(
                f"cannot keep the data in {str(self._directory)!r}: {error.strerror}; what was there before is kept"
            ) from error

    def _save(self, root: Path, objects: EmbeddedObjects, dynamodb: Any, healthimaging: HealthImaging) -> None:
        for bucket in objects.buckets():
            paths = {stored.key: _path(stored.key) for stored in objects.listing(bucket, "")}
            directories = {parent for path in paths.values() for parent in path.parents}
            for key, below in paths.items():
                path = root / "s3" / bucket / (below.with_name(below.name + _MARK) if below in directories else below)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(objects.read(bucket, key))
        (root / "dynamodb").mkdir(parents=True)
        for table in dynamodb.list_tables()["TableNames"]:
            pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
            lines = [json.dumps(item) for page in pages for item in page["Items"]]
            (root / "dynamodb" / f"{table}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (root / "healthimaging.json").write_bytes(msgspec.json.encode(healthimaging.state()))
        if (self._directory / _CURRENT).exists():
            shutil.rmtree(self._directory / _OLD, ignore_errors=True)
            (self._directory / _CURRENT).rename(self._directory / _OLD)
        root.rename(self._directory / _CURRENT)
        shutil.rmtree(self._directory / _OLD, ignore_errors=True)


def _path(key: str) -> Path:
    """A key as a path: whatever else a key may be, it leads nowhere else."""
    parts = []
    for part in key.split("/"):
        quoted = quote(part, safe=" +@=,()") or _MARK
        parts.append(quoted.replace(".", "%2E") if quoted in (".", "..") else quoted)
    return Path(*parts)


def _key(path: Path) -> str:
    """The key that such a path was made of."""
    return "/".join(unquote(part.removesuffix(_MARK)) for part in path.parts)
