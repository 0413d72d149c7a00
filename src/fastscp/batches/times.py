"""Times and AE titles as the marker and the manifest write them.

Enters: seconds since the epoch, what a peer called itself. Leaves: UTC in whole milliseconds, printable ASCII.
Never: a character of a peer's that could break a line, a page or an encoder.
"""

from datetime import UTC, datetime

AE_TITLE_CHARACTERS = 16
"""Longest AE title, PS3.5 table 6.2-1."""


def utc(now_s: float) -> datetime:
    """This moment in UTC, down to the millisecond.

    Args:
        now_s: seconds since the epoch.
    """
    at = datetime.fromtimestamp(now_s, UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def seconds(at: datetime) -> float:
    """Seconds since the epoch."""
    return at.timestamp()


def printable(ae_title: str) -> str:
    """An AE title in printable ASCII: whatever is not, and the backslash, as Python's escape."""
    characters = ae_title[:AE_TITLE_CHARACTERS]
    if characters.isascii() and characters.isprintable() and "\\" not in characters:
        return characters
    return "".join(
        character if " " <= character <= "~" and character != "\\" else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in characters
    )
