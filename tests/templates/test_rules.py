"""Every promise holds in every deployment; and each rule notices when a template breaks its promise."""

from pathlib import Path

import pytest

from fastscp.local.templates import resolve
from tests.templates import guard_network, guard_policies, guard_receiver, guard_vpc, guard_wiring  # noqa: F401 - they register their rules
from tests.templates.deployments import CFN, VARIANTS, changed, deployed, of_type
from tests.templates.guard import RULES
from tests.templates.guard_network import PEERS, ingress
from tests.templates.mutations import MUTATIONS as FIRST
from tests.templates.mutations_network import MUTATIONS as OF_THE_NETWORK
from tests.templates.mutations_policies import MUTATIONS as OF_POLICIES

MUTATIONS = [*FIRST, *OF_THE_NETWORK, *OF_POLICIES]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_promise_holds(variant: str) -> None:
    resolved = deployed(variant)
    assert {name: broken for name, rule in RULES.items() if (broken := list(rule(resolved)))} == {}


@pytest.mark.parametrize(
    ("rule", "variant", "file", "old", "new"), MUTATIONS, ids=[f"{number}-{one[0]}" for number, one in enumerate(MUTATIONS)]
)
def test_a_broken_promise_is_noticed(tmp_path: Path, rule: str, variant: str, file: str, old: str, new: str) -> None:
    resolved = deployed(variant, changed(tmp_path, file, old, new))
    assert list(RULES[rule](resolved))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_peer_reaches_every_listener(variant: str) -> None:
    """Each source that the parameters name, on each port that the load balancer listens on, and no other pair."""
    resolved = deployed(variant)
    given = {(PEERS[name], value) for name, value in VARIANTS[variant].items() if name in PEERS}
    ports = {int(listener.properties["Port"]) for _, listener in of_type(resolved, "AWS::ElasticLoadBalancingV2::Listener")}
    rules = ingress(resolved, resolved.resources["Network/LoadBalancerSecurityGroup"])
    found = {(member, one[member], int(one["FromPort"])) for one in rules for member in PEERS.values() if member in one}
    assert found == {(*source, port) for source in given for port in ports}
    assert len(rules) == len(found)


def test_the_repository_is_scanned_and_its_tags_stay() -> None:
    resolved = resolve(CFN / "repository.yaml", {})
    repository = resolved.resources["Repository"].properties
    assert (repository["ImageScanningConfiguration"], repository["ImageTagMutability"]) == ({"ScanOnPush": True}, "IMMUTABLE")
    for name in ("buckets_are_private", "only_tls_reaches_data", "data_is_encrypted"):
        assert list(RULES[name](resolved)) == []


def test_every_rule_has_been_seen_to_bite() -> None:
    assert {one[0] for one in MUTATIONS} == set(RULES)
