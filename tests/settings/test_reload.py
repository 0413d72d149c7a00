"""What a configuration that is read anew changes."""

import msgspec

from fastscp.settings import OPTIONS, Settings, change
from fastscp.settings.reload import LIVE


def test_live_options_are_options() -> None:
    assert set(OPTIONS) >= LIVE


def test_nothing_changes() -> None:
    settings = Settings()
    assert change(settings, settings) == (settings, [], [])


def test_only_live_options_are_taken_over() -> None:
    before = Settings()
    read = msgspec.structs.replace(before, port=104, aet="OTHER", max_associations=7, put_timeout_s=3.0, log_level="debug")
    changed = change(before, read)
    assert changed.changed == ["aet", "max_associations", "log_level"]
    assert changed.needs_restart == ["port", "put_timeout"]
    assert changed.settings == msgspec.structs.replace(before, aet="OTHER", max_associations=7, log_level="debug")
