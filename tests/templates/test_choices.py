"""Each parameter does what it says: what is chosen is found where it has its effect, and what is not chosen is not there."""

from collections.abc import Callable
from typing import Any

import pytest

from fastscp.local.templates import Resolved, load, resolve
from tests.templates.deployments import ACCOUNT, CERTIFICATE, CFN, CUSTOMER_KEY, LEAST, REGION, of_type
from tests.templates.guard import attributes
from tests.templates.guard_network import accepted, container, environment
from tests.templates.guard_policies import FUNCTIONS

Look = Callable[[Resolved], Any]


def deployed(given: dict[str, str]) -> Resolved:
    return resolve(CFN / "main.yaml", LEAST | given, region=REGION, account=ACCOUNT)


def count(kind: str) -> Look:
    return lambda resolved: len(list(of_type(resolved, kind)))


def of(path: str, *members: str | int) -> Look:
    """What a property of a resource is, as text."""

    def look(resolved: Resolved) -> Any:
        value: Any = resolved.resources[path].properties
        for member in members:
            value = value[member]
        return value if isinstance(value, list | dict) else str(value)

    return look


def setting(name: str) -> Look:
    """What the receiver makes of its environment."""
    return lambda resolved: getattr(accepted(environment(resolved)), name)


def variable(name: str) -> Look:
    return lambda resolved: {
        str(function.properties["Environment"]["Variables"][name]) for _, function in of_type(resolved, "AWS::Lambda::Function")
    }


def of_all(kind: str, member: str) -> Look:
    return lambda resolved: {str(one.properties.get(member)) for _, one in of_type(resolved, kind)}


def of_target(name: str) -> Look:
    return lambda resolved: attributes(resolved.resources["Receiver/TargetGroup"].properties["TargetGroupAttributes"])[name]


def listeners(resolved: Resolved) -> set[tuple[str, str]]:
    found = of_type(resolved, "AWS::ElasticLoadBalancingV2::Listener")
    return {(listener.properties["Protocol"], str(listener.properties["Port"])) for _, listener in found}


def expiring(bucket: str) -> Look:
    """Days after which what is current expires, by prefix."""

    def look(resolved: Resolved) -> dict[str, str]:
        rules = resolved.resources[f"Storage/{bucket}Bucket"].properties["LifecycleConfiguration"]["Rules"]
        return {rule.get("Prefix", ""): str(rule["ExpirationInDays"]) for rule in rules if "ExpirationInDays" in rule}

    return look


def restricted(resolved: Resolved) -> set[str]:
    """Roles that are refused outside the VPC."""
    policies = {one.ref for path, one in of_type(resolved, "AWS::IAM::ManagedPolicy") if path == "NetworkCondition"}
    return {path for path, role in of_type(resolved, "AWS::IAM::Role") if policies & set(role.properties.get("ManagedPolicyArns", []))}


def attached(resolved: Resolved) -> set[str]:
    """Managed policies that roles have; an ARN that is nobody's is itself."""
    paths = {one.ref: path for path, one in of_type(resolved, "AWS::IAM::ManagedPolicy")}
    arns = (arn for _, role in of_type(resolved, "AWS::IAM::Role") for arn in role.properties.get("ManagedPolicyArns", []))
    return {paths.get(arn, arn) for arn in arns}


def addresses(resolved: Resolved) -> Any:
    condition = resolved.resources["NetworkCondition"].properties["PolicyDocument"]["Statement"][0]["Condition"]
    return condition.get("NotIpAddress")


def zones(resolved: Resolved) -> set[str]:
    return {subnet.properties["AvailabilityZone"] for _, subnet in of_type(resolved, "AWS::EC2::Subnet")}


TASK = "Receiver/TaskDefinition"
TLS = {"TLSCertificateARN": CERTIFICATE}
VPC = {"VpcID": "vpc-0123abcd", "VpcCIDR": "172.16.0.0/16", "PrivateSubnetIDs": "subnet-0123abcd,subnet-0123abce"}
PUBLIC = VPC | TLS | {"LoadBalancerScheme": "internet-facing", "PublicSubnetIDs": "subnet-0123abcf,subnet-0123abd0"}
WORKLOADS = {"Receiver/TaskRole", *(f"Workflow/{name}Role" for name in FUNCTIONS)}
KEPT_PREFIXES = {"instances/": "30", "inbox/": "30", "batches/": "30"}
# What is given, where one looks, what is there.
EFFECTS: list[tuple[dict[str, str], Look, Any]] = [
    ({"SCPAETitle": "IMPORT 1"}, setting("aet"), "IMPORT 1"),
    ({"SCPPort": "10104"}, setting("port"), 10104),
    ({"SCPPort": "10104"}, listeners, {("TCP", "10104")}),
    ({"MaximumAssociations": "77"}, setting("max_associations"), 77),
    ({"DIMSETimeout": "45"}, setting("progress_timeout_s"), 45),
    ({"NetworkTimeout": "1200"}, setting("idle_timeout_s"), 1200),
    ({"RequireCalledAETitle": "true"}, setting("require_called_aet"), True),
    ({"RequireCalledAETitle": "false"}, setting("require_called_aet"), False),
    ({"RequireCallingAETitle": "CT1,MR 2"}, lambda r: sorted(accepted(environment(r)).require_calling_aet), ["CT1", "MR 2"]),
    ({}, lambda r: "FASTSCP_REQUIRE_CALLING_AET" in environment(r), False),
    ({"SupportedSOPClassUIDs": "1.2.3,1.2.4"}, lambda r: sorted(accepted(environment(r)).sop_classes), ["1.2.3", "1.2.4"]),
    ({}, lambda r: "FASTSCP_SOP_CLASSES" in environment(r), False),
    ({"LogLevel": "warning"}, setting("log_level"), "warning"),
    ({"LogLevel": "warning"}, variable("LOG_LEVEL"), {"warning"}),
    (TLS, listeners, {("TLS", "2762")}),
    (TLS | {"AllowPlaintext": "yes"}, listeners, {("TLS", "2762"), ("TCP", "11112")}),
    ({"ClientAddress": "preserve"}, of_target("preserve_client_ip.enabled"), "true"),
    ({"ClientAddress": "preserve"}, of_target("proxy_protocol_v2.enabled"), "false"),
    ({"ClientAddress": "proxy-protocol"}, of_target("preserve_client_ip.enabled"), "false"),
    ({"ClientAddress": "proxy-protocol"}, of_target("proxy_protocol_v2.enabled"), "true"),
    ({"ClientAddress": "proxy-protocol"}, lambda r: environment(r)["FASTSCP_PROXY_PROTOCOL"], "10.0.2.0/24,10.0.3.0/24"),
    ({"ClientAddress": "none"}, of_target("preserve_client_ip.enabled"), "false"),
    ({"ClientAddress": "none"}, of_target("proxy_protocol_v2.enabled"), "false"),
    ({}, count("AWS::EC2::VPC"), 1),
    ({"VpcCIDR": "10.9.0.0/20"}, of("Network/Vpc", "CidrBlock"), "10.9.0.0/20"),
    ({"PeerCIDR1": "", "PeerPrefixListID": "pl-0123abcd"}, count("AWS::EC2::SecurityGroupIngress"), 1),
    (VPC, count("AWS::EC2::VPC"), 0),
    (VPC, of("Receiver/TargetGroup", "VpcId"), "vpc-0123abcd"),
    (VPC, of("Receiver/LoadBalancer", "Subnets"), ["subnet-0123abcd", "subnet-0123abce"]),
    (PUBLIC, of("Receiver/LoadBalancer", "Subnets"), ["subnet-0123abcf", "subnet-0123abd0"]),
    (PUBLIC, of("Receiver/LoadBalancer", "Scheme"), "internet-facing"),
    (VPC | {"ClientAddress": "proxy-protocol"}, lambda r: environment(r)["FASTSCP_PROXY_PROTOCOL"], "172.16.0.0/16"),
    ({"AvailabilityZones": "us-east-1c,us-east-1f"}, zones, {"us-east-1c", "us-east-1f"}),
    ({"NatGateway": "yes"}, count("AWS::EC2::NatGateway"), 2),
    ({"NatGateway": "no"}, count("AWS::EC2::NatGateway"), 0),
    (VPC | {"NatGateway": "yes"}, count("AWS::EC2::NatGateway"), 0),
    (
        {"DeletionProtection": "false"},
        lambda r: attributes(r.resources["Receiver/LoadBalancer"].properties["LoadBalancerAttributes"])["deletion_protection.enabled"],
        "false",
    ),
    ({}, lambda r: container(r)["Image"], LEAST["ImageURI"]),
    ({"CPUArchitecture": "X86_64"}, of(TASK, "RuntimePlatform"), {"CpuArchitecture": "X86_64", "OperatingSystemFamily": "LINUX"}),
    ({"TaskCPU": "2048", "TaskMemoryLimit": "8192"}, of(TASK, "Cpu"), "2048"),
    ({"TaskCPU": "2048", "TaskMemoryLimit": "8192"}, of(TASK, "Memory"), "8192"),
    ({"TaskDesiredCount": "3"}, of("Receiver/ScalableTarget", "MinCapacity"), "3"),
    ({"AutoscaleMaxCapacity": "9"}, of("Receiver/ScalableTarget", "MaxCapacity"), "9"),
    ({"DicomPrefix": "a/b"}, variable("DICOM_PREFIX"), {"a/b"}),
    ({"DicomPrefix": "a/b"}, lambda r: accepted(environment(r)).store.path, "a/b"),
    ({"ResultsPrefix": "c"}, variable("RESULTS_PREFIX"), {"c"}),
    ({"DicomVersioning": "Suspended"}, of("Storage/DicomBucket", "VersioningConfiguration"), {"Status": "Suspended"}),
    ({"DicomVersioning": "Suspended"}, of("Storage/ResultsBucket", "VersioningConfiguration"), {"Status": "Suspended"}),
    ({"DicomRetentionDays": "30"}, expiring("Dicom"), KEPT_PREFIXES),
    ({"DicomRetentionDays": "0"}, expiring("Dicom"), {}),
    ({"ResultsRetentionDays": "40"}, expiring("Results"), {"": "40"}),
    ({"AccessLogRetentionDays": "50"}, expiring("AccessLog"), {"": "50"}),
    ({"KmsKey": "create"}, count("AWS::KMS::Key"), 1),
    ({"KmsKey": CUSTOMER_KEY}, count("AWS::KMS::Key"), 0),
    ({"KmsKey": CUSTOMER_KEY}, of_all("AWS::SQS::Queue", "KmsMasterKeyId"), {CUSTOMER_KEY}),
    ({}, of_all("AWS::SQS::Queue", "KmsMasterKeyId"), {"None"}),
    ({"DatastoreID": "7" * 32}, count("AWS::HealthImaging::Datastore"), 0),
    ({"DatastoreID": "7" * 32}, variable("DATASTORE_ID"), {"7" * 32}),
    ({"DatastoreName": "hospital"}, of("Storage/Datastore", "DatastoreName"), "hospital"),
    ({"ImportStartsPerSecond": "2.5"}, variable("STARTS_PER_SECOND"), {"2.5"}),
    ({"ConcurrentImportJobs": "7"}, variable("CONCURRENT_JOBS"), {"7"}),
    ({}, variable("CONCURRENT_JOBS"), {"100"}),
    ({"FunctionMemory": "512"}, of_all("AWS::Lambda::Function", "MemorySize"), {"512"}),
    ({"TriggerTimeout": "60"}, of("Workflow/TriggerImportFunction", "Timeout"), "60"),
    ({"FunctionTimeout": "30"}, of("Workflow/StartImportJobFunction", "Timeout"), "30"),
    ({"CheckTimeout": "300"}, of("Workflow/CheckStatusFunction", "Timeout"), "300"),
    ({"SweepTimeout": "900"}, of("Workflow/SweepBatchesFunction", "Timeout"), "900"),
    ({"FunctionConcurrency": "20"}, of_all("AWS::Lambda::Function", "ReservedConcurrentExecutions"), {"20"}),
    ({}, of_all("AWS::Lambda::Function", "ReservedConcurrentExecutions"), {"None"}),
    ({"RestrictToVpc": "yes"}, restricted, WORKLOADS),
    ({"RestrictToVpc": "yes"}, addresses, None),
    ({"RestrictToVpc": "no"}, restricted, set()),
    ({"RestrictToVpc": "no"}, lambda r: "NetworkCondition" in r.resources, False),
    ({"RestrictToVpc": "no"}, attached, {"Workflow/FunctionPlatformPolicy"}),
    (
        {"RestrictToVpc": "yes", "RestrictToCIDRs": "192.0.2.0/24,198.51.100.7/32"},
        addresses,
        {"aws:SourceIp": ["192.0.2.0/24", "198.51.100.7/32"]},
    ),
    ({"AlarmEmail": "a@example.org"}, of_all("AWS::SNS::Subscription", "Endpoint"), {"a@example.org"}),
    ({}, count("AWS::SNS::Subscription"), 0),
    ({"ImportAgeAlarmMinutes": "90"}, of("Monitoring/ImportAgeAlarm", "Threshold"), "90"),
    ({"DataEventTrail": "yes"}, count("AWS::CloudTrail::Trail"), 1),
    ({"DataEventTrail": "no"}, count("AWS::CloudTrail::Trail"), 0),
    ({"LogRetentionDays": "30"}, of_all("AWS::Logs::LogGroup", "RetentionInDays"), {"30"}),
]
# Peers: test_every_peer_reaches_every_listener. What make deploy fills in is in the exact policies and wiring of the rules.
ELSEWHERE = {"PeerCIDR1", "PeerCIDR2", "PeerCIDR3", "PeerPrefixListID", "SecurityGroupID", "ImageURI", "RepositoryArn"}
ELSEWHERE |= {"ArtifactBucket", "ArtifactPrefix"}


@pytest.mark.parametrize(
    ("given", "look", "there"), EFFECTS, ids=[f"{n}-{'-'.join(given) or 'defaults'}" for n, (given, _, _) in enumerate(EFFECTS)]
)
def test_a_choice_has_its_effect(given: dict[str, str], look: Look, there: Any) -> None:
    assert look(deployed(given)) == there


def test_every_parameter_has_been_chosen() -> None:
    assert {name for given, _, _ in EFFECTS for name in given} | ELSEWHERE == set(load(CFN / "main.yaml")["Parameters"])


def test_outputs_are_what_they_are_called() -> None:
    resolved = deployed({"KmsKey": "create"})
    refs = {path: resource.ref for path, resource in resolved.resources.items()}
    expected = {
        "DICOMPort": "11112",
        "DICOMAETitle": "FASTSCP",
        "DicomBucketName": refs["Storage/DicomBucket"],
        "ResultsBucketName": refs["Storage/ResultsBucket"],
        "AccessLogBucketName": refs["Storage/AccessLogBucket"],
        "BatchTableName": refs["Storage/DicomImportBatchTable"],
        "JobTableName": refs["Storage/DicomImportJobTable"],
        "DatastoreID": refs["Storage/Datastore"],
        "StateMachineArn": refs["Workflow/ImportStateMachine"],
        "AlarmTopicArn": refs["Monitoring/AlarmTopic"],
    }
    found = dict(resolved.outputs)
    dns, url = found.pop("NetworkLoadBalancerDNS"), found.pop("DashboardURL")
    assert {name: str(value) for name, value in found.items()} == expected
    assert "receiver-loadbalancer" in dns
    assert (
        url
        == f"https://{REGION}.console.aws.amazon.com/cloudwatch/home?region={REGION}#dashboards/dashboard/{refs['Monitoring/Dashboard']}"
    )
