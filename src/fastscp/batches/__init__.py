"""Which batch an instance belongs to, and how a batch lives: see docs/batches.md.

Enters: instances that are to be committed. Leaves: their keys, and one manifest for each batch.
Never: an acknowledged instance in no manifest or in two, whatever crashes when.
"""

from fastscp.batches.joining import Batches, Ticket
from fastscp.batches.keeper import Keeper
from fastscp.batches.keys import Keys
from fastscp.batches.membership import Arrival, Limits
from fastscp.batches.objects import Listed, Objects

__all__ = ["Arrival", "Batches", "Keeper", "Keys", "Limits", "Listed", "Objects", "Ticket"]
