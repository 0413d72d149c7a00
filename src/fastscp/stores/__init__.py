"""Where instances are committed.

Enters: instances and their names. Leaves: commits. Never: a name that is not key-safe.
"""

from fastscp.stores.base import AssociationStore, InstanceName, Origin, Store, Upload
from fastscp.stores.file import FileStore
from fastscp.stores.health import Report, StoreHealth
from fastscp.stores.null import NullStore

__all__ = ["AssociationStore", "FileStore", "InstanceName", "NullStore", "Origin", "Report", "Store", "StoreHealth", "Upload"]
