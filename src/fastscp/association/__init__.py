"""The pynetdicom layer: the only package that imports it.

Enters: connected sockets. Leaves: associations that end well. Never: pynetdicom's threads, its polls, its copies.
"""

from fastscp.association.acceptor import Acceptor, Connection, Slots
from fastscp.association.compat import check_pynetdicom

__all__ = ["Acceptor", "Connection", "Slots", "check_pynetdicom"]
