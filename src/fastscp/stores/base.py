"""What every store is: the place where an instance is committed before Success is said.

Enters: an instance and its name. Leaves: a commit, or a RefusedError. Never: a return before the bytes are where the store promises them.
"""

from typing import NamedTuple, Protocol

from fastscp._ext.committer import Committer
from fastscp._ext.part10 import Instance


class InstanceName(NamedTuple):
    """What identifies an instance; every UID is key-safe (see `fastscp.uids.is_key_safe`)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


class Origin(NamedTuple):
    """Where instances come from; the AE titles are without surrounding spaces."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str


class Upload(Protocol):
    """An instance that goes to the store while it arrives. Used by one thread; ends with exactly one of `commit` and `abandon`."""

    def spill(self, instance: Instance) -> None:
        """Take what the instance can give out of memory. Raises RefusedError; the upload is then only good for `abandon`."""

    def commit(self, instance: Instance, name: InstanceName) -> None:
        """Take the rest and commit. Raises RefusedError; nothing of it then remains in the store."""

    def abandon(self) -> None:
        """Remove everything that was spilled. Does not raise."""


class AssociationStore(Protocol):
    """A store as one association uses it, in its one thread. Owns nothing of an instance after its methods have returned."""

    @property
    def committer(self) -> Committer | None:
        """What commits ordinary instances as `commit` does, but in native code; None where that cannot be."""

    def commit(self, instance: Instance, name: InstanceName) -> None:
        """Commit an instance that is whole and in memory. Raises RefusedError."""

    def begin_upload(self, instance: Instance) -> Upload:
        """Begin to take an instance while it arrives. Raises RefusedError."""


class Store(Protocol):
    """Thread-safe."""

    @property
    def spill_from_bytes(self) -> int:
        """An instance that holds this much memory should begin to go to the store, if `--spill-threshold` does not say so before."""

    def for_association(self, origin: Origin) -> AssociationStore:
        """The store for what comes from there."""

    def close(self) -> None:
        """Finish what this process has begun, and remove what only it needs. Called once, when no association is left."""
