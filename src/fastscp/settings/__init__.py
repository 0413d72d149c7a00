"""All settings: each option of the receiver is declared once, in Settings, and each of `fastscp jobs` in JobsSettings.

Enters: flags, the environment, a TOML file. Leaves: one frozen object, and where each value came from.
Never: a value that was not checked, an unknown name passed over.
"""

from fastscp.settings.jobs import JOBS_OPTIONS, JobsSettings
from fastscp.settings.kinds import Network, StoreTarget
from fastscp.settings.load import Inspection, inspect_settings, load_jobs_settings, load_settings, replace_environment
from fastscp.settings.reload import Change, change
from fastscp.settings.table import ABORT_GRACE_S, EXIT_GRACE_S, OPTIONS, Option, Settings

__all__ = [
    "ABORT_GRACE_S",
    "Change",
    "EXIT_GRACE_S",
    "JOBS_OPTIONS",
    "OPTIONS",
    "Inspection",
    "JobsSettings",
    "Network",
    "Option",
    "Settings",
    "StoreTarget",
    "change",
    "inspect_settings",
    "load_jobs_settings",
    "load_settings",
    "replace_environment",
]
