"""Which settings may change while the receiver runs.

Enters: the settings that hold, and those that were read anew. Leaves: those that hold from now on, and what changed and did not.
Never: a setting that some part took up and another did not.
"""

from typing import NamedTuple

import msgspec

from fastscp.settings.table import OPTIONS, Settings

LIVE = frozenset(
    {
        "aet",
        "require_called_aet",
        "require_calling_aet",
        "peers",
        "sop_classes",
        "max_associations",
        "max_instance_size",
        "log_level",
    }
)
"""Options that are looked at anew for each association, or each record."""


class Change(NamedTuple):
    """What a reading anew comes to; options by their names."""

    settings: Settings
    changed: list[str]
    needs_restart: list[str]


def change(before: Settings, read: Settings) -> Change:
    """Take over what may change, and keep the rest."""
    different = [option for option in OPTIONS.values() if getattr(before, option.attribute) != getattr(read, option.attribute)]
    taken = {option.attribute: getattr(read, option.attribute) for option in different if option.name in LIVE}
    return Change(
        msgspec.structs.replace(before, **taken),
        [option.name for option in different if option.name in LIVE],
        [option.name for option in different if option.name not in LIVE],
    )
