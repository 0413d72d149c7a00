"""Who may send: addresses in all their forms, titles with and without spaces, and which reason comes first.

Enters: requests. Leaves: rejections. Never: an address that slips through because it is written in another way.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from pynetdicom.pdu_primitives import A_ASSOCIATE

from fastscp.association import admission
from fastscp.association.admission import Admission
from fastscp.settings import Settings


def judge(address: str = "192.0.2.1", *, draining: bool = False, request: Any = None, **settings: Any) -> Any:
    made = Admission(Settings(memory_budget_bytes=8 << 20, **settings))
    return made.judge(request or asked(), address, draining=draining)


def asked(*, calling: str = "SENDER", called: str = "FASTSCP", application_context: str = "1.2.840.10008.3.1.1.1") -> A_ASSOCIATE:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = application_context  # type: ignore[assignment]
    primitive.calling_ae_title = calling.ljust(16)
    primitive.called_ae_title = called.ljust(16)
    return primitive


def networks(*texts: str) -> dict[str, Any]:
    return {"peers": tuple(ipaddress.ip_network(text) for text in texts)}


@pytest.mark.parametrize(
    ("network", "address", "allowed"),
    [
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.1/32", "192.0.2.1", True),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("192.0.2.0/24", "::ffff:c000:0207", True),
        ("192.0.2.0/24", "::ffff:192.0.3.7", False),
        ("192.0.2.0/24", "::192.0.2.7", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("2001:db8::/32", "192.0.2.1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("fe80::/10", "fe80::1%25", True),
        ("2001:db8::/32", "fe80::1%eth0", False),
        ("0.0.0.0/0", "::1", False),
        ("::/0", "192.0.2.1", False),
        ("0.0.0.0/0", "203.0.113.9", True),
    ],
)
def test_addresses(network: str, address: str, allowed: bool) -> None:
    assert judge(address, **networks(network)) == (None if allowed else admission.PEER_ADDRESS)


def test_one_of_many_networks_is_enough() -> None:
    many = networks("192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32")
    assert judge("198.51.100.7", **many) is None
    assert judge("198.51.100.8", **many) == admission.PEER_ADDRESS


def test_without_a_list_everybody_is_known() -> None:
    assert judge("203.0.113.1") is None


@pytest.mark.parametrize("called", ["FASTSCP", " FASTSCP", "FASTSCP  ", "  FASTSCP  "])
def test_spaces_around_a_title_do_not_count(called: str) -> None:
    assert judge(request=asked(called=called), require_called_aet=True) is None


@pytest.mark.parametrize("called", ["fastscp", "FAST SCP", "FASTSCP2", "FASTSC"])
def test_everything_else_in_a_title_counts(called: str) -> None:
    assert judge(request=asked(called=called), require_called_aet=True) == admission.CALLED_AE_TITLE
    assert judge(request=asked(called=called)) is None


@pytest.mark.parametrize(("calling", "allowed"), [("CT 1", True), (" CT 1 ", True), ("MR1", True), ("CT1", False), ("ct 1", False)])
def test_calling_titles(calling: str, allowed: bool) -> None:
    verdict = judge(request=asked(calling=calling), require_calling_aet=("CT 1", "MR1"))
    assert verdict == (None if allowed else admission.CALLING_AE_TITLE)


def test_the_reason_that_stays_comes_before_the_one_that_passes() -> None:
    """A peer that may never send is told so, also when it could not send just now."""
    wrong = asked(called="OTHER", calling="OTHER", application_context="1.2.3")
    limits = {"require_called_aet": True, "require_calling_aet": ("GOOD",), **networks("192.0.2.0/24")}
    order = [
        judge("203.0.113.1", request=wrong, draining=True, **limits),
        judge(request=wrong, draining=True, **limits),
        judge(request=asked(called="OTHER", calling="OTHER"), draining=True, **limits),
        judge(request=asked(calling="OTHER"), draining=True, **limits),
        judge(request=asked(calling="GOOD"), draining=True, **limits),
        judge(request=asked(calling="GOOD"), **limits),
    ]
    assert order == [
        admission.PEER_ADDRESS,
        admission.APPLICATION_CONTEXT,
        admission.CALLED_AE_TITLE,
        admission.CALLING_AE_TITLE,
        admission.TEMPORARY_CONGESTION,
        None,
    ]


def test_every_rejection_is_one_of_table_9_21() -> None:
    """PS3.8 table 9-21: (source, diagnostic) with their results."""
    known = {(1, 1), (1, 2), (1, 3), (1, 7), (2, 1), (2, 2), (3, 1), (3, 2)}
    rejections = [value for value in vars(admission).values() if isinstance(value, admission.Rejection)]
    assert len(rejections) == 6
    for rejection in rejections:
        assert (rejection.source, rejection.diagnostic) in known
        assert rejection.result == (2 if rejection.source == 3 else 1)
