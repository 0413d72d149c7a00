"""Draws docs/architecture.md from the templates.

Enters: cfn/. Leaves: a diagram of what they make and of who calls, triggers or fills what. Never: an arrow that no template has.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastscp.local.templates import Resolved, resolve

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "architecture.md"
GIVEN = {
    "ImageURI": "123456789012.dkr.ecr.us-east-1.amazonaws.com/fastscp:1",
    "RepositoryArn": "arn:aws:ecr:us-east-1:123456789012:repository/fastscp",
    "ArtifactBucket": "artefacts",
    "ArtifactPrefix": "fastscp/",
    "PeerCIDR1": "10.20.0.0/16",
}
SHAPES = {
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "{}[/{}/]",
    "AWS::ECS::Service": "{}[[{}]]",
    "AWS::S3::Bucket": "{}[({})]",
    "AWS::DynamoDB::Table": "{}[({})]",
    "AWS::HealthImaging::Datastore": "{}[({})]",
    "AWS::SQS::Queue": "{}>{}]",
    "AWS::Lambda::Function": "{}({})",
    "AWS::StepFunctions::StateMachine": "{}{{{{{}}}}}",
    "AWS::Scheduler::Schedule": "{}(({}))",
    "AWS::SNS::Topic": "{}>{}]",
}
VERBS = {"Get": "reads", "List": "reads", "Query": "reads", "Describe": "asks", "Start": "starts"} | dict.fromkeys(
    ("Put", "Update", "Delete"), "writes"
)


def pointed_at(resolved: Resolved, value: Any) -> Iterator[str]:
    """Paths of the drawn resources whose names are in a value."""
    names = set(re.findall(r"[\w.-]+", repr(value)))
    for path, resource in resolved.resources.items():
        if resource.type in SHAPES and re.split(r"[/:]", resource.ref)[-1] in names:
            yield path


def arrows(resolved: Resolved) -> Iterator[tuple[str, str, str]]:
    """From, to, and what the arrow says."""
    by_ref = {resource.ref: path for path, resource in resolved.resources.items()}
    groups = {}
    for listener in (resource.properties for resource in resolved.resources.values() if resource.type.endswith("::Listener")):
        groups |= {by_ref[action["TargetGroupArn"]]: by_ref[listener["LoadBalancerArn"]] for action in listener["DefaultActions"]}
    for path, resource in resolved.resources.items():
        properties = resource.properties
        if resource.type == "AWS::ECS::Service":
            for one in properties["LoadBalancers"]:
                yield groups[by_ref[one["TargetGroupArn"]]], path, "associations"
            task = resolved.resources[by_ref[properties["TaskDefinition"]]].properties
            yield from role_arrows(resolved, path, task["TaskRoleArn"])
        elif resource.type == "AWS::S3::Bucket":
            for to in pointed_at(resolved, properties.get("NotificationConfiguration", {})):
                yield path, to, "events"
            for to in pointed_at(resolved, properties.get("LoggingConfiguration", {})):
                yield path, to, "access log"
        elif resource.type == "AWS::SQS::Queue":
            for to in pointed_at(resolved, properties.get("RedrivePolicy", {})):
                yield path, to, "after 5 attempts"
        elif resource.type == "AWS::Lambda::EventSourceMapping":
            for queue in pointed_at(resolved, properties["EventSourceArn"]):
                for to in pointed_at(resolved, properties["FunctionName"]):
                    yield queue, to, "messages"
        elif resource.type == "AWS::Lambda::Function":
            yield from role_arrows(resolved, path, properties["Role"])
        elif resource.type == "AWS::StepFunctions::StateMachine":
            for to in pointed_at(resolved, properties["DefinitionSubstitutions"]):
                yield path, to, "calls"
        elif resource.type == "AWS::Scheduler::Schedule":
            for to in pointed_at(resolved, properties["Target"]["Arn"]):
                yield path, to, "calls"
    for datastore in (path for path, resource in resolved.resources.items() if resource.type == "AWS::HealthImaging::Datastore"):
        yield from role_arrows(resolved, datastore, resolved.resources["Workflow/DataAccessRole"].ref)


def role_arrows(resolved: Resolved, path: str, role: str) -> Iterator[tuple[str, str, str]]:
    """What a role lets its holder do with the resources that are drawn."""
    found: dict[str, set[str]] = {}
    for resource in resolved.resources.values():
        if resource.type == "AWS::IAM::Role" and resource.ref == role.rpartition("/")[2]:
            for statement in (s for policy in resource.properties["Policies"] for s in policy["PolicyDocument"]["Statement"]):
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                verbs = {VERBS[verb] for action in actions for verb in re.findall(r":([A-Z][a-z]+)", action) if verb in VERBS}
                if not actions[0].startswith(("kms:", "sqs:", "iam:")):
                    for to in pointed_at(resolved, statement["Resource"]):
                        found.setdefault(to, set()).update(verbs)
    for to, verbs in found.items():
        yield path, to, ", ".join(sorted(verbs))


def draw() -> str:
    """The page."""
    resolved = resolve(ROOT / "cfn" / "main.yaml", GIVEN)
    drawn = {path: resource for path, resource in resolved.resources.items() if resource.type in SHAPES}
    numbers = {path: f"n{number}" for number, path in enumerate(drawn)}
    lines = ["# Architecture in AWS", "", "Drawn from the templates by `make diagram`; a test holds that it is what they say.", ""]
    lines += ["```mermaid", "flowchart LR"]
    for stack in dict.fromkeys(path.partition("/")[0] for path in drawn):
        lines.append(f"  subgraph {stack}")
        for path in (path for path in drawn if path.startswith(f"{stack}/")):
            lines.append("    " + SHAPES[drawn[path].type].format(numbers[path], path.partition("/")[2]))
        lines.append("  end")
    for start, to, says in sorted(set(arrows(resolved)), key=lambda arrow: list(map(str, arrow))):
        if start in numbers and to in numbers:
            lines.append(f"  {numbers[start]} -->|{says}| {numbers[to]}")
    alarms = [path for path, resource in resolved.resources.items() if resource.type == "AWS::CloudWatch::Alarm"]
    lines += [f"  alarms{{{{{len(alarms)} alarms}}}} -->|tell| {numbers['Monitoring/AlarmTopic']}", "```", ""]
    kinds: dict[str, int] = {}
    for resource in resolved.resources.values():
        kinds[resource.type] = kinds.get(resource.type, 0) + 1
    rows = [f"| {kind} | {count} |" for kind, count in sorted(kinds.items())]
    lines += ["What the defaults make, by type:", "", "| type | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
