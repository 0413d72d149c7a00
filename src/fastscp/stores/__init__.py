"""Where instances are committed.

Enters: the settings. Leaves: a store. Never: more than one way to name one.
"""

from pathlib import Path

from fastscp.settings import Settings
from fastscp.stores.base import InstanceName, Store, Upload
from fastscp.stores.file import FileStore
from fastscp.stores.null import NullStore

__all__ = ["InstanceName", "Store", "Upload", "open_store"]


def open_store(settings: Settings) -> Store:
    """The store that `--store` names. Raises ConfigError where it cannot be used."""
    if settings.store.kind == "null":
        return NullStore()
    return FileStore(Path(settings.store.path), fsync=settings.fsync, replace=settings.on_duplicate == "overwrite")
