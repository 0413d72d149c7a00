"""UIDs: which make a key, which conform, what a transfer syntax means."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastscp import uids

CONFORMANT = ["1", "0", "1.2.840.10008.1.2", "1.0.3", "2.25." + "1" * 59, "1" * 64]
KEY_SAFE_ONLY = ["01", "1.02", "1..2", "00", "1.2.0000", "0" * 64]
UNUSABLE = ["", ".", "1.", ".1", "1" * 65, "1.2 ", "1.2\0", "1/2", "..", "1.a", "\u0661.2", "1.2\n", "-1", "../1", "1\\2"]


@pytest.mark.parametrize("uid", CONFORMANT)
def test_conformant_is_key_safe(uid: str) -> None:
    assert uids.is_conformant(uid)
    assert uids.is_key_safe(uid)


@pytest.mark.parametrize("uid", KEY_SAFE_ONLY)
def test_odd_but_usable(uid: str) -> None:
    assert uids.is_key_safe(uid)
    assert not uids.is_conformant(uid)


@pytest.mark.parametrize("uid", UNUSABLE)
def test_unusable(uid: str) -> None:
    assert not uids.is_key_safe(uid)
    assert not uids.is_conformant(uid)


@given(st.text(st.sampled_from("0123456789. /a"), max_size=70))
def test_they_agree_with_the_words_of_the_rule(uid: str) -> None:
    key_safe = 1 <= len(uid) <= 64 and set(uid) <= set("0123456789.") and uid[0] != "." and uid[-1] != "."
    assert uids.is_key_safe(uid) == key_safe
    conformant = key_safe and all(part and (part == "0" or part[0] != "0") for part in uid.split("."))
    assert uids.is_conformant(uid) == conformant


def test_our_own_identity() -> None:
    assert uids.is_conformant(uids.IMPLEMENTATION_CLASS_UID)
    root, number = uids.IMPLEMENTATION_CLASS_UID.rsplit(".", 1)
    assert root == "2.25"
    assert uuid.UUID(int=int(number)).version == 4
    assert 1 <= len(uids.IMPLEMENTATION_VERSION_NAME) <= 16


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "expected"),
    [
        ("1.2.840.10008.1.2", (False, True, False)),
        ("1.2.840.10008.1.2.1", (True, True, False)),
        ("1.2.840.10008.1.2.2", (True, False, False)),
        ("1.2.840.10008.1.2.1.99", (True, True, True)),
        ("1.2.840.10008.1.2.4.95", (True, True, True)),
        ("1.2.840.10008.1.2.4.205", (True, True, True)),
        ("1.2.840.10008.1.2.4.50", (True, True, False)),
        ("1.2.3.4.5", (True, True, False)),
    ],
)
def test_transfer_syntax_encoding(transfer_syntax_uid: str, expected: tuple[bool, bool, bool]) -> None:
    assert uids.transfer_syntax_encoding(transfer_syntax_uid) == expected
