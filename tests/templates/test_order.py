"""What has to be there before something else is made: a template says it by what it refers to, or by DependsOn."""

import re
from pathlib import Path
from typing import Any

import pytest

from fastscp.local.templates import load
from tests.templates.deployments import CFN, changed
from tests.templates.mutations import MAIN, N, R, S, W

# File, what is made later, what is made before.
ORDER = [
    # S3 asks the queue and the log bucket whether it may send, when a bucket is made that shall.
    (S, "DicomBucket", "ImportQueuePolicy"),
    (S, "DicomBucket", "AccessLogBucketPolicy"),
    (S, "ResultsBucket", "AccessLogBucketPolicy"),
    # A route to a gateway, and an address, need a gateway that the VPC has.
    (N, "PublicRoute", "InternetGatewayAttachment"),
    *((N, f"{name}{zone}", "InternetGatewayAttachment") for name in ("NatAddress", "NatGateway", "NatRoute") for zone in (1, 2)),
    (N, "FlowLog", "FlowLogRole"),
    (N, "FlowLog", "FlowLogGroup"),
    # ECS refuses a target group that no listener uses.
    (R, "Service", "PlaintextTcpListener"),
    (R, "Service", "TlsListener"),
    (R, "Service", "ExecutionRole"),
    (R, "Service", "LogGroup"),
    (R, "ScalableTarget", "Service"),
    (R, "ScaleByCpu", "ScalableTarget"),
    (R, "ScaleByBytesInFlight", "ScalableTarget"),
    # Lambda asks whether the role may take messages and make network interfaces.
    (W, "TriggerImportEvents", "TriggerImportRole"),
    *(
        (W, f"{name}Function", before)
        for name in ("TriggerImport", "CheckStatus")
        for before in ("FunctionPlatformPolicy", "FunctionLogGroup")
    ),
    (W, "ImportStateMachine", "StateMachineRole"),
    (W, "ImportStateMachine", "StateMachineLogGroup"),
    (W, "SweepSchedule", "SweepScheduleRole"),
    # Endpoints and routes are there before anything calls AWS; the data store and the queue before what reads them.
    (MAIN, "Receiver", "Network"),
    (MAIN, "Receiver", "Storage"),
    (MAIN, "Workflow", "Network"),
    (MAIN, "Workflow", "Storage"),
    (MAIN, "NetworkCondition", "Network"),
    (MAIN, "Monitoring", "Receiver"),
]


def named_in(node: Any) -> set[str]:
    """What a resource waits for by itself."""
    if isinstance(node, list):
        return set().union(*map(named_in, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(named_in, node.values()))
    for name, value in node.items():
        if name == "Ref":
            found.add(value)
        elif name == "Fn::GetAtt":
            found.add(value[0])
        elif name == "Fn::Sub":
            found |= set(re.findall(r"\$\{(\w+)", value if isinstance(value, str) else value[0]))
        elif name == "DependsOn":
            found |= {value} if isinstance(value, str) else set(value)
    return found


def made_before(directory: Path, file: str, name: str) -> set[str]:
    resources = load(directory / file)["Resources"]
    waiting, found = {name}, set[str]()
    while waiting:
        more = named_in(resources[waiting.pop()]) & set(resources) - found
        waiting |= more
        found |= more
    return found


@pytest.mark.parametrize(("file", "later", "before"), ORDER)
def test_what_has_to_be_there_before_is(file: str, later: str, before: str) -> None:
    assert before in made_before(CFN, file, later)


@pytest.mark.parametrize(
    ("file", "old", "new", "later", "before"),
    [
        (
            S,
            "DependsOn: [ImportQueuePolicy, AccessLogBucketPolicy]",
            "DependsOn: AccessLogBucketPolicy",
            "DicomBucket",
            "ImportQueuePolicy",
        ),
        (S, "    DependsOn: AccessLogBucketPolicy\n", "", "ResultsBucket", "AccessLogBucketPolicy"),
        (N, "    DependsOn: InternetGatewayAttachment\n", "", "PublicRoute", "InternetGatewayAttachment"),
        (R, "Value: !If [HasTls, !Ref TlsListener, none]", "Value: none", "Service", "TlsListener"),
        (W, "ManagedPolicyArns: [!Ref FunctionPlatformPolicy, ", "ManagedPolicyArns: [", "TriggerImportFunction", "FunctionPlatformPolicy"),
    ],
)
def test_a_lost_dependency_is_noticed(tmp_path: Path, file: str, old: str, new: str, later: str, before: str) -> None:
    assert before not in made_before(changed(tmp_path, file, old, new), file, later)


@pytest.mark.parametrize("name", [MAIN, "repository.yaml"])
def test_what_is_handed_over_as_text_is_short_enough(name: str) -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html: 51,200 bytes, and 1 MB from S3."""
    assert (CFN / name).stat().st_size <= 51_200
