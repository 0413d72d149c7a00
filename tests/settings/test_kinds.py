"""Each kind of value: what is taken, what is refused, and that what is shown can be read again."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastscp.settings import OPTIONS, StoreTarget, kinds
from fastscp.settings.kinds import Kind

SIZE = kinds.size(1, 2**50)
INTEGER = kinds.integer(1, 100)
SECONDS = kinds.seconds(0.1, 3600)
CHOICE = kinds.choice("red", "blue")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (INTEGER, "1", 1),
        (INTEGER, "100", 100),
        (SECONDS, "0.1", 0.1),
        (SECONDS, "1e3", 1000.0),
        (SIZE, "131072", 131072),
        (SIZE, "512MiB", 512 * 2**20),
        (SIZE, "512 mib", 512 * 2**20),
        (SIZE, "4GiB", 4 * 2**30),
        (SIZE, "64kB", 64000),
        (SIZE, "7B", 7),
        (CHOICE, "red", "red"),
        (kinds.YES_NO, "yes", True),
        (kinds.YES_NO, "False", False),
        (kinds.SWITCH, "1", True),
        (kinds.AE_TITLE, "A", "A"),
        (kinds.AE_TITLE, "  CT 1, room 2  ", "CT 1, room 2"),
        (kinds.AE_TITLE, "SIXTEEN_LETTERS_", "SIXTEEN_LETTERS_"),
        (kinds.UIDS, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2"),
        (kinds.NETWORKS, "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
        (kinds.NETWORKS, "10.1.2.3", ipaddress.ip_network("10.1.2.3/32")),
        (kinds.NETWORKS, "fd00::/8", ipaddress.ip_network("fd00::/8")),
        (kinds.HOST, "0.0.0.0", "0.0.0.0"),
        (kinds.HOST, "::", "::"),
        (kinds.HOST, "[::1]", "::1"),
        (kinds.HOST, "receiver.hospital.example", "receiver.hospital.example"),
        (kinds.STORE, "./received", StoreTarget("file", "./received")),
        (kinds.STORE, "file:/data", StoreTarget("file", "/data")),
        (kinds.STORE, "file:a:b", StoreTarget("file", "a:b")),
        (kinds.STORE, "/a:b", StoreTarget("file", "/a:b")),
        (kinds.STORE, "null", StoreTarget("file", "null")),
        (kinds.STORE, "s3://bucket", StoreTarget("s3", "", "bucket")),
        (kinds.STORE, "s3://bucket/site/a/", StoreTarget("s3", "site/a", "bucket")),
        (kinds.ACCOUNT, "123456789012", "123456789012"),
        (kinds.STORE, "null:", StoreTarget("null", "")),
        (kinds.NAMESPACE, "fastscp/site-1_a.b#c:d", "fastscp/site-1_a.b#c:d"),
        (kinds.NAMESPACE, "", ""),
    ],
)
def test_taken(kind: Kind, text: str, value: object) -> None:
    assert kind.parse(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (INTEGER, "0", "'0' is not from 1 to 100"),
        (INTEGER, "101", "'101' is not from 1 to 100"),
        (INTEGER, "1.0", "'1.0' is not a whole number"),
        (INTEGER, "", "'' is not a whole number"),
        (INTEGER, "\u0661", "'\\u0661' is not a whole number"),
        (INTEGER, "1_0", "'1_0' is not a whole number"),
        (INTEGER, "9" * 5000, "is not a whole number"),
        (SECONDS, "0", "'0' is not from 0.1 to 3600"),
        (SECONDS, "nan", "'nan' is not a number of seconds"),
        (SECONDS, "inf", "'inf' is not a number of seconds"),
        (SECONDS, "30s", "'30s' is not a number of seconds"),
        (SIZE, "0", "'0' is not from 1 to 1024TiB"),
        (SIZE, "1.5GiB", "is not a size in bytes"),
        (SIZE, "1M", "is not a size in bytes"),
        (SIZE, "-1", "is not a size in bytes"),
        (SIZE, "GiB", "is not a size in bytes"),
        (CHOICE, "Red", "'Red' is not one of red, blue"),
        (kinds.YES_NO, "on", "'on' is not yes or no"),
        (kinds.AE_TITLE, "", "'' is not an AE title"),
        (kinds.AE_TITLE, "   ", "'   ' is not an AE title"),
        (kinds.AE_TITLE, "SEVENTEEN_LETTERS", "is not an AE title"),
        (kinds.AE_TITLE, "A\\B", "is not an AE title"),
        (kinds.AE_TITLE, "A\tB", "'A\\tB' is not an AE title"),
        (kinds.AE_TITLE, "R\xf6ntgen", "'R\\xf6ntgen' is not an AE title"),
        (kinds.UIDS, "1.02", "'1.02' is not a UID"),
        (kinds.UIDS, "CTImageStorage", "is not a UID"),
        (kinds.NETWORKS, "10.0.0.1/8", "'10.0.0.1/8' is not an IP address or network"),
        (kinds.NETWORKS, "hospital", "is not an IP address or network"),
        (kinds.HOST, "", "'' is not an IP address or host name"),
        (kinds.HOST, "256.1.1.1", "is not an IP address or host name"),
        (kinds.HOST, "1:2", "is not an IP address or host name"),
        (kinds.HOST, "a b", "is not an IP address or host name"),
        (kinds.STORE, "", "'' is not a path"),
        (kinds.STORE, "a\0b", "is not a path"),
        (kinds.NAMESPACE, "AWS/ECS", "'AWS/ECS' is not a namespace"),
        (kinds.NAMESPACE, ":a", "is not a namespace"),
        (kinds.NAMESPACE, "a b", "is not a namespace"),
        (kinds.NAMESPACE, "n" * 256, "is not a namespace"),
        (kinds.STORE, "null:x", "nothing may follow null:"),
        (kinds.STORE, "file:", "is not file:PATH"),
        (kinds.STORE, "file://host/x", "is not file:PATH"),
        (kinds.STORE, "s3://bucket/a b", "is not s3://bucket/prefix"),
        (kinds.ACCOUNT, "12345678901", "is not a 12-digit account"),
        (kinds.WORD, "a b", "has characters that are not printable ASCII"),
        (kinds.STORE, "s3://B/x", "is not s3://bucket/prefix"),
        (kinds.STORE, "http://x", "is not a path, file:PATH, s3://bucket/prefix or null:"),
    ],
)
def test_refused(kind: Kind, text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        kind.parse(text)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@given(st.integers(1, 2**50))
def test_a_size_that_is_shown_can_be_read(value: int) -> None:
    assert SIZE.parse(SIZE.show(value)) == value


@pytest.mark.parametrize("name", OPTIONS)
@given(text=st.text(max_size=30))
def test_any_text_is_a_value_or_a_value_error(name: str, text: str) -> None:
    kind = OPTIONS[name].declared.kind
    try:
        value = kind.parse(text)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017 - not raising is as good
    else:
        assert kind.parse(kind.show(value)) == value
