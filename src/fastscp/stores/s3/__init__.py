"""Objects in S3.

Enters: options. Leaves: an engine. Never: more than one way to open one.
"""

import importlib.util
from typing import Literal

from fastscp.errors import ConfigError
from fastscp.stores.s3.attributes import ObjectAttributes, instance_attributes
from fastscp.stores.s3.engine import (
    AccessProblem,
    ChecksumMismatch,
    Engine,
    EngineError,
    ListedObject,
    MultipartUpload,
    NotFound,
    PreconditionFailed,
    PutResult,
    Segments,
)
from fastscp.stores.s3.options import S3Options

__all__ = [
    "EngineKind",
    "open_engine",
    "S3Options",
    "Engine",
    "MultipartUpload",
    "PutResult",
    "ListedObject",
    "Segments",
    "ObjectAttributes",
    "instance_attributes",
    "EngineError",
    "AccessProblem",
    "ChecksumMismatch",
    "NotFound",
    "PreconditionFailed",
]

EngineKind = Literal["auto", "s3transfer", "obstore"]


def open_engine(kind: EngineKind, options: S3Options) -> Engine:
    """The engine of that kind; `auto` is obstore where it is installed. Raises ConfigError."""
    installed = importlib.util.find_spec("obstore") is not None
    if kind == "obstore" and not installed:
        raise ConfigError("--s3-engine", "obstore is not installed: pip install 'fastscp[fast]'")
    if kind == "obstore" or (kind == "auto" and installed):
        from fastscp.stores.s3.obstore_engine import ObstoreEngine

        return ObstoreEngine(options)
    from fastscp.stores.s3.botocore_engine import BotocoreEngine

    return BotocoreEngine(options)
