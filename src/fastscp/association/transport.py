"""The sockets of pynetdicom's upper layer, on ours.

Enters: encoded PDUs from the state machine. Leaves: bytes on the wire. Never: a poll, a wait without a deadline.
"""

import socket
from typing import TYPE_CHECKING

from pynetdicom import evt
from pynetdicom.transport import AddressInformation, AssociationSocket

from fastscp._ext.wire import Wire

if TYPE_CHECKING:
    from fastscp.association.pumped import PumpedAssociation


class WireSocket(AssociationSocket):
    """pynetdicom's socket, sending through the association's `Wire`, which alone receives."""

    def __init__(self, assoc: "PumpedAssociation", client_socket: socket.socket, wire: Wire) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._wire = wire

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; Evt17 where the connection is gone or the peer takes nothing."""
        try:
            self._wire.send(bytestream)
        except OSError:
            self.event_queue.put("Evt17")
        else:
            evt.trigger(self.assoc, evt.EVT_DATA_SENT, {"data": bytestream})

    def _shutdown_socket(self) -> None:
        # Nobody else has the descriptor: to close is to shut down, for one system call less.
        if self.socket is not None:
            self.socket.close()


class PeerAddress(AddressInformation):
    """An address that is one already: pynetdicom's class would resolve it as a name, at each connection."""

    @property
    def address(self) -> str:
        """The numeric IPv4 or IPv6 address."""
        return self._addr

    @address.setter
    def address(self, value: str) -> None:
        self._addr = value
