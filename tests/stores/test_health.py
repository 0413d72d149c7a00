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
