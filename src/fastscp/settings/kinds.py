"""The kinds of value that an option can have: how each is read from text, and how it is shown.

Enters: text from a flag, the environment or a file. Leaves: checked values; ValueError with what is wrong with the text.
Never: a default, a name of an option.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

from fastscp.uids import is_conformant

N = TypeVar("N", int, float)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SIZE = re.compile(r"([0-9]{1,18}) ?([A-Za-z]{0,3})")
# The default repertoire of ISO 646 without control characters and backslash, PS3.5 table 6.2-1.
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class StoreTarget(msgspec.Struct, frozen=True):
    """Where instances are committed.

    Attributes:
        path: directory for "file"; prefix of all keys for "s3", without a slash at its end; "" for "null".
        bucket: for "s3".
    """

    kind: Literal["file", "s3", "null"]
    path: str
    bucket: str = ""

    def __str__(self) -> str:
        if self.kind == "s3":
            return f"s3://{self.bucket}/{self.path}"
        return "null:" if self.kind == "null" else self.path


class Kind(msgspec.Struct, frozen=True):
    """One kind of value.

    Attributes:
        parse: text to value; raises ValueError whose text completes "--option: ...".
        metavar: the value's name in help; "" for a switch, which takes none.
        show: value to text that `parse` takes.
        many: whether the option may be given several times; `parse` and `show` are then for one of its values.
    """

    parse: Callable[[str], Any]
    metavar: str
    show: Callable[[Any], str] = str
    many: bool = False


def _quote(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def _in_range(value: N, text: str, low: N, high: N, show: Callable[[N], str]) -> N:
    if not low <= value <= high:
        raise ValueError(f"{_quote(text)} is not from {show(low)} to {show(high)}")
    return value


def integer(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise ValueError(f"{_quote(text)} is not a whole number")
        return _in_range(int(text), text, low, high, str)

    return Kind(parse, "NUMBER")


def seconds(low: float, high: float) -> Kind:
    """A time in seconds from `low` to `high`."""

    def show(value: float) -> str:
        return f"{value:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{_quote(text)} is not a number of seconds")
        return _in_range(value, text, low, high, show)

    return Kind(parse, "SECONDS", show)


def show_size(value: int) -> str:
    """A number of bytes in the largest binary unit that divides it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        size = _UNITS[unit.lower()]
        if value >= size and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


def size(low: int, high: int, show: Callable[[int], str] = show_size) -> Kind:
    """A number of bytes from `low` to `high`, with or without a unit."""

    def parse(text: str) -> int:
        found = _SIZE.fullmatch(text)
        if not found or found[2].lower() not in _UNITS:
            raise ValueError(f"{_quote(text)} is not a size in bytes, such as 1048576, 1MiB or 1MB")
        return _in_range(int(found[1]) * _UNITS[found[2].lower()], text, low, high, show)

    return Kind(parse, "SIZE", show)


def choice(*values: str) -> Kind:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"{_quote(text)} is not one of {', '.join(values)}")
        return text

    return Kind(parse, "|".join(values))


def _parse_yes_no(text: str) -> bool:
    value = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(text.lower())
    if value is None:
        raise ValueError(f"{_quote(text)} is not yes or no")
    return value


def _show_yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _parse_ae_title(text: str) -> str:
    # Leading and trailing spaces are not significant.
    title = text.strip(" ")
    if not _AE_TITLE.fullmatch(title):
        raise ValueError(f"{_quote(text)} is not an AE title: 1 to 16 printable ASCII characters, no backslash, not all spaces")
    return title


def _parse_uid(text: str) -> str:
    if not is_conformant(text):
        raise ValueError(f"{_quote(text)} is not a UID")
    return text


def _parse_network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{_quote(text)} is not an IP address or network such as 10.1.0.0/16 (bits after the prefix must be 0)") from None


def _parse_host(text: str) -> str:
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(host) or len(host) > 253 or re.fullmatch(r"[0-9.]+", host):
            raise ValueError(f"{_quote(text)} is not an IP address or host name") from None
        return host


def _parse_store(text: str) -> StoreTarget:
    scheme, colon, rest = text.partition(":")
    if not text or "\0" in text:
        raise ValueError(f"{_quote(text)} is not a path")
    if not colon or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        return StoreTarget("file", text)
    if scheme == "null":
        if rest:
            raise ValueError(f"{_quote(text)}: nothing may follow null:")
        return StoreTarget("null", "")
    if scheme == "file":
        if not rest or rest.startswith("//"):
            raise ValueError(f"{_quote(text)} is not file:PATH")
        return StoreTarget("file", rest)
    if scheme == "s3":
        found = re.fullmatch(r"//([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9!_.*'()/-]*))?", rest)
        if found is None:
            raise ValueError(f"{_quote(text)} is not s3://bucket/prefix")
        return StoreTarget("s3", (found[2] or "").strip("/"), found[1])
    raise ValueError(f"{_quote(text)} is not a path, file:PATH, s3://bucket/prefix or null: (a path with a colon is written file:PATH)")


def _parse_account(text: str) -> str:
    if not re.fullmatch(r"([0-9]{12})?", text):
        raise ValueError(f"{_quote(text)} is not a 12-digit account")
    return text


def _parse_word(text: str) -> str:
    if not re.fullmatch(r"[!-~]{0,2048}", text):
        raise ValueError(f"{_quote(text)} has characters that are not printable ASCII")
    return text


def _parse_table(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", text):
        raise ValueError(f"{_quote(text)} is not the name of a table: 3 to 255 of letters, digits, dot, dash and underscore")
    return text


def _parse_namespace(text: str) -> str:
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
    if not re.fullmatch(r"([A-Za-z0-9._/#-][A-Za-z0-9:._/#-]{0,254})?", text) or text.startswith("AWS/"):
        raise ValueError(
            f"{_quote(text)} is not a namespace: up to 255 of letters, digits and . - _ / # :, not beginning with AWS/ or a colon"
        )
    return text


SWITCH = Kind(_parse_yes_no, "", _show_yes_no)
YES_NO = Kind(_parse_yes_no, "yes|no", _show_yes_no)
AE_TITLE = Kind(_parse_ae_title, "TITLE")
AE_TITLES = Kind(_parse_ae_title, "TITLE", many=True)
UIDS = Kind(_parse_uid, "UID", many=True)
NETWORKS = Kind(_parse_network, "CIDR", many=True)
HOST = Kind(_parse_host, "ADDRESS")
STORE = Kind(_parse_store, "STORE")
ACCOUNT = Kind(_parse_account, "ACCOUNT")
WORD = Kind(_parse_word, "NAME")
TABLE = Kind(_parse_table, "TABLE")
NAMESPACE = Kind(_parse_namespace, "NAME")
