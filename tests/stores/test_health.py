"""Whether the store takes instances: told when it changes, and only then."""

from fastscp.stores import StoreHealth


def test_only_changes_are_told() -> None:
    told: list[tuple[bool, str]] = []
    health = StoreHealth(lambda ready, why: told.append((ready, why)))
    health.succeeded()
    for _ in range(3):
        health.failed("denied")
    health.failed("no bucket")
    for _ in range(3):
        health.succeeded()
    assert told == [(True, ""), (False, "denied"), (False, "no bucket"), (True, "")]


def test_a_success_is_remembered_until_somebody_asks() -> None:
    health = StoreHealth(lambda ready, why: None)
    assert (health.is_ready(), health.has_succeeded()) == (True, False)
    health.succeeded()
    assert [health.has_succeeded(), health.has_succeeded()] == [True, False]
    health.failed("denied")
    assert (health.is_ready(), health.has_succeeded()) == (False, False)
