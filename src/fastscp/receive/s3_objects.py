"""What batches write, in S3: markers and manifests.

Enters: keys and bytes. Leaves: objects in S3, or a StoreError. Never: an instance.
"""

from collections.abc import Iterator

from fastscp.batches import Listed
from fastscp.errors import StoreError
from fastscp.stores import StoreHealth
from fastscp.stores.s3 import AccessProblem, Engine, EngineError, NotFound, ObjectAttributes, PreconditionFailed

_JSON = ObjectAttributes("application/json", {})


class S3Objects:
    """The object store of `fastscp.batches`, on an engine. Thread-safe."""

    def __init__(self, engine: Engine, deadline_s: float, health: StoreHealth) -> None:
        self._engine = engine
        self._deadline_s = deadline_s
        self._health = health

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Objects.put_if_absent`."""
        try:
            self._engine.put(key, [data], attributes=_JSON, deadline_s=self._deadline_s, if_none_match=True)
        except PreconditionFailed as error:
            return error.may_be_ours
        except EngineError as error:
            raise store_error(error, self._health) from error
        return True

    def put(self, key: str, data: bytes) -> None:
        """See `Objects.put`."""
        try:
            self._engine.put(key, [data], attributes=_JSON, deadline_s=self._deadline_s)
        except EngineError as error:
            raise store_error(error, self._health) from error

    def delete(self, key: str) -> None:
        """See `Objects.delete`."""
        try:
            self._engine.delete(key, deadline_s=self._deadline_s)
        except EngineError as error:
            raise store_error(error, self._health) from error

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Objects.list`."""
        try:
            for listed in self._engine.list_keys(prefix, deadline_s=self._deadline_s):
                yield Listed(listed.key, listed.size_bytes, listed.modified_s)
        except EngineError as error:
            raise store_error(error, self._health) from error

    def get(self, key: str) -> bytes | None:
        """See `Objects.get`."""
        try:
            return self._engine.get_bytes(key, deadline_s=self._deadline_s)
        except NotFound:
            return None
        except EngineError as error:
            raise store_error(error, self._health) from error


def store_error(error: EngineError, health: StoreHealth) -> StoreError:
    """The answer to an instance that S3 did not take. Where that is not the instance's own fault, the store is not ready."""
    if isinstance(error, AccessProblem):
        health.failed(f"S3 refuses access: {error.code}")
    elif error.retryable:
        health.failed(f"S3 does not take instances: {error.code}")
    comment = "S3 did not take the instance, send again later" if error.retryable else f"S3 refuses the instance: {error.code}"
    return StoreError(comment, error.code)
