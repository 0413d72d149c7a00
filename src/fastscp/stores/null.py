"""The store that drops everything, for measuring the receiver alone.

Enters: instances. Leaves: nothing. Never: what a hospital sends.
"""

import sys

from fastscp._ext.committer import NullCommitter
from fastscp._ext.part10 import Instance
from fastscp.stores.base import InstanceName, Origin


class NullStore:
    """Says that it committed, and keeps nothing."""

    committer = NullCommitter()
    spill_from_bytes = sys.maxsize

    def for_association(self, origin: Origin) -> "NullStore":
        """The store itself: files do not say where they come from."""
        return self

    def commit(self, instance: Instance, name: InstanceName) -> None:
        """Drop the instance."""

    def begin_upload(self, instance: Instance) -> "NullUpload":
        """Drop the instance while it arrives."""
        return NullUpload()

    def close(self) -> None:
        """Nothing to remove."""


class NullUpload:
    """Drops what it is given."""

    def spill(self, instance: Instance) -> None:
        """Drop what can be dropped."""
        instance.drop_spillable(instance.spillable_bytes())

    def commit(self, instance: Instance, name: InstanceName) -> None:
        """Drop the rest."""

    def abandon(self) -> None:
        """Nothing to remove."""
