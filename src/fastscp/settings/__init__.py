"""All settings of the receiver: each option is declared once, in the class below.

Enters: flags, the environment, a TOML file. Leaves: one frozen object, and where each value came from.
Never: a value that was not checked, an unknown name passed over.
"""

from fastscp.settings.kinds import Network, StoreTarget
from fastscp.settings.load import Inspection, inspect_settings, load_settings
from fastscp.settings.table import OPTIONS, Option, Settings

__all__ = ["OPTIONS", "Inspection", "Network", "Option", "Settings", "StoreTarget", "inspect_settings", "load_settings"]
