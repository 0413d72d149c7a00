"""Commit of ordinary instances without the interpreter lock.

Enters: an instance with nothing unusual about it. Leaves: a commit, or an errno. Never: an explanation; that is the owner's.
"""

from typing import final

from typing_extensions import disjoint_base

@disjoint_base
class Committer:
    """How a store commits ordinary instances (`Instance.ordinary_name`) in native code; `Wire.serve` calls it. Thread-safe.

    This one commits nothing: every instance is left to its owner.
    """

@final
class NullCommitter(Committer):
    """Says that it committed, and keeps nothing."""
