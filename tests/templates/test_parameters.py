"""Parameters: documented, grouped, used, the same in every template; and choices that cannot be are refused."""

import re
from pathlib import Path
from typing import Any

import pytest

from fastscp.local.templates import TemplateError, load, resolve
from tests.templates.deployments import CFN, LEAST, REGION
from tests.templates.guard_network import accepted, environment

TEMPLATES = sorted(CFN.glob("*.yaml"))
MAIN = load(CFN / "main.yaml")
NESTED = {name: body["Properties"]["Parameters"] for name, body in MAIN["Resources"].items() if body["Type"].endswith("::Stack")}
DEPLOYMENT = CFN.parent / "docs" / "deployment.md"
# Another product's customers know these names; where the meaning is the same, the name is.
KNOWN_NAMES = {
    "SCPPort",
    "SCPAETitle",
    "MaximumAssociations",
    "DIMSETimeout",
    "NetworkTimeout",
    "RequireCalledAETitle",
    "RequireCallingAETitle",
    "SupportedSOPClassUIDs",
    "PeerCIDR1",
    "PeerCIDR2",
    "PeerCIDR3",
    "SecurityGroupID",
    "TaskCPU",
    "TaskMemoryLimit",
    "TaskDesiredCount",
    "AutoscaleMaxCapacity",
    "TLSCertificateARN",
    "VpcID",
    "VpcCIDR",
    "AvailabilityZones",
    "PublicSubnetIDs",
    "PrivateSubnetIDs",
}
# RetainExceptOnCreate: what a rollback of the first deployment can delete, and does.
KEPT = {
    "AWS::S3::Bucket": "Retain",
    "AWS::DynamoDB::Table": "Retain",
    "AWS::KMS::Key": "Retain",
    "AWS::HealthImaging::Datastore": "RetainExceptOnCreate",
    "AWS::Logs::LogGroup": "RetainExceptOnCreate",
    "AWS::ECR::Repository": "RetainExceptOnCreate",
}
OUTPUTS = {"NetworkLoadBalancerDNS", "DICOMPort", "DICOMAETitle", "DicomBucketName", "ResultsBucketName", "BatchTableName", "JobTableName"}


def names_in(node: Any) -> set[str]:
    """What a template refers to: parameters, resources, conditions."""
    if isinstance(node, list):
        return set().union(*map(names_in, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(names_in, node.values()))
    for name, value in node.items():
        if name in {"Ref", "Condition"} and isinstance(value, str):
            found.add(value)
        elif name == "Fn::If":
            found.add(value[0])
        elif name == "Fn::Sub":
            found |= set(re.findall(r"\$\{([\w:]+)", value if isinstance(value, str) else value[0]))
    return found


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_parameters_and_conditions_are_described_grouped_and_used(path: Path) -> None:
    template = load(path)
    used = names_in({name: part for name, part in template.items() if name not in {"Metadata", "Parameters"}})
    groups = template.get("Metadata", {}).get("AWS::CloudFormation::Interface", {}).get("ParameterGroups", [])
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        assert name in used, f"{name} is not used"
        assert parameter["Description"], f"{name} is not described"
    for name in template.get("Conditions", {}):
        assert name in used, f"condition {name} is not used"


def test_every_parameter_and_its_default_are_in_the_guide() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", DEPLOYMENT.read_text(encoding="utf-8"), re.MULTILINE))
    said = {name: body.get("Default", "-") for name, body in MAIN["Parameters"].items()}
    assert {name: text.strip().strip("`") for name, text in rows.items()} == {name: str(value) or "empty" for name, value in said.items()}


def test_names_that_are_known_are_kept() -> None:
    assert set(MAIN["Parameters"]) >= KNOWN_NAMES
    assert set(MAIN["Outputs"]) >= OUTPUTS


@pytest.mark.parametrize("name", NESTED)
def test_a_nested_stack_gets_its_parameters_and_no_others(name: str) -> None:
    nested = load(CFN / f"{name.lower()}.yaml")
    assert set(NESTED[name]) == set(nested["Parameters"])
    for parameter, body in nested["Parameters"].items():
        assert "Default" not in body, f"{parameter}: a default that nobody sees"
        if NESTED[name][parameter] == {"Ref": parameter}:
            for constraint in ("AllowedPattern", "AllowedValues", "MinValue", "MaxValue"):
                if constraint in body:
                    assert body[constraint] == MAIN["Parameters"][parameter].get(constraint), (
                        f"{parameter}: {constraint} is another in main"
                    )


@pytest.mark.parametrize("name", NESTED)
def test_outputs_of_nested_stacks_are_used(name: str) -> None:
    outputs = set(load(CFN / f"{name.lower()}.yaml")["Outputs"])
    assert outputs == set(re.findall(rf"{name}\.Outputs\.(\w+)", (CFN / "main.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_what_holds_data_outlives_its_stack(path: Path) -> None:
    for name, body in load(path).get("Resources", {}).items():
        if body["Type"] in KEPT:
            assert (body.get("DeletionPolicy"), body.get("UpdateReplacePolicy")) == (KEPT[body["Type"]], "Retain"), name


def memory_of(cpu: str) -> set[int]:
    """What Fargate takes, in MiB: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html"""
    gib = {"256": [0.5, 1, 2], "512": range(1, 5), "1024": range(2, 9), "2048": range(4, 17), "4096": range(8, 31)}
    gib |= {"8192": range(16, 61, 4), "16384": range(32, 121, 8)}
    return {int(size * 1024) for size in gib[cpu]}


@pytest.mark.parametrize("cpu", MAIN["Parameters"]["TaskCPU"]["AllowedValues"])
def test_pairs_of_processor_and_memory(cpu: str) -> None:
    taken = memory_of(cpu)
    (assertion,) = MAIN["Rules"][f"MemoryOfTaskCPU{cpu}"]["Assertions"]
    assert set(map(int, assertion["Assert"]["Fn::Contains"][0])) == taken
    for memory in (min(taken), max(taken)):
        resolve(CFN / "main.yaml", LEAST | {"TaskCPU": cpu, "TaskMemoryLimit": str(memory)})
    for memory in (min(taken) // 2, max(taken) * 2, min(taken) + 1):
        with pytest.raises(TemplateError, match=f"MemoryOfTaskCPU{cpu}"):
            resolve(CFN / "main.yaml", LEAST | {"TaskCPU": cpu, "TaskMemoryLimit": str(memory)})


CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0123-abcd"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"PeerCIDR1": ""}, "Nobody could send"),
        ({"PeerCIDR1": "10.0.0.0"}, "PeerCIDR1"),
        ({"VpcID": "vpc-0123abcd"}, "VpcID needs PrivateSubnetIDs"),
        ({"VpcID": "vpc-0123abcd", "PrivateSubnetIDs": "subnet-0123abcd"}, "PrivateSubnetIDs"),
        ({"PrivateSubnetIDs": "subnet-0123abcd,subnet-0123abce"}, "Subnets are of VpcID"),
        (
            {
                "VpcID": "vpc-0123abcd",
                "PrivateSubnetIDs": "subnet-0123abcd,subnet-0123abce",
                "LoadBalancerScheme": "internet-facing",
                "TLSCertificateARN": CERTIFICATE,
            },
            "needs PublicSubnetIDs",
        ),
        ({"LoadBalancerScheme": "internet-facing"}, "needs TLSCertificateARN"),
        ({"TLSCertificateARN": CERTIFICATE, "NetworkTimeout": "600"}, "Set NetworkTimeout"),
        ({"RestrictToCIDRs": "192.0.2.0/24"}, "goes with RestrictToVpc"),
        ({"DicomRetentionDays": "1"}, "DicomRetentionDays"),
        ({"DicomRetentionDays": "6"}, "DicomRetentionDays"),
        ({"SCPAETitle": "SEVENTEEN LETTERS"}, "SCPAETitle"),
        ({"SCPAETitle": "BACK\\SLASH"}, "SCPAETitle"),
        ({"SCPAETitle": "   "}, "SCPAETitle"),
        ({"RequireCallingAETitle": "CT1,"}, "RequireCallingAETitle"),
        ({"RequireCallingAETitle": "CT1,   "}, "RequireCallingAETitle"),
        ({"RequireCallingAETitle": "CT1,SEVENTEEN LETTERS"}, "RequireCallingAETitle"),
        ({"SupportedSOPClassUIDs": "1..2"}, "SupportedSOPClassUIDs"),
        ({"SCPPort": "8080"}, "PortsAreDistinct"),
        ({"SCPPort": "2762", "TLSCertificateARN": CERTIFICATE, "AllowPlaintext": "yes"}, "PortsAreDistinct"),
        ({"PeerCIDR2": LEAST["PeerCIDR1"]}, "PeerCIDR1 and PeerCIDR2"),
        ({"PeerCIDR3": LEAST["PeerCIDR1"]}, "PeerCIDR1 and PeerCIDR3"),
        ({"PeerCIDR2": "192.0.2.0/24", "PeerCIDR3": "192.0.2.0/24"}, "PeerCIDR2 and PeerCIDR3"),
        ({"PeerCIDR1": "10.256.0.0/16"}, "PeerCIDR1"),
        ({"PeerCIDR1": "10.20.0.0/33"}, "PeerCIDR1"),
        ({"VpcCIDR": "10.0.0.0/8"}, "VpcCIDR"),
        ({"ImportStartsPerSecond": "0"}, "ImportStartsPerSecond"),
        ({"ImportStartsPerSecond": "0.000"}, "ImportStartsPerSecond"),
        ({"FunctionConcurrency": "0"}, "FunctionConcurrency"),
        ({"DicomPrefix": "/hospital"}, "DicomPrefix"),
        ({"DicomPrefix": "hospital/"}, "DicomPrefix"),
        ({"ImageURI": "123456789012.dkr.ecr.us-east-1.amazonaws.com/fastscp"}, "ImageURI"),
        ({"KmsKey": "alias/aws/s3"}, "KmsKey"),
        ({"TaskDesiredCount": "0"}, "TaskDesiredCount"),
        ({"Unheard": "of"}, "Unheard"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(words)):
        resolve(CFN / "main.yaml", LEAST | given)


RECEIVERS = ("SCPAETitle", "SCPPort", "RequireCalledAETitle", "NetworkTimeout", "ClientAddress", "LogLevel", "CPUArchitecture")


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, str(value)) for name in RECEIVERS for value in MAIN["Parameters"][name].get("AllowedValues", [])]
    + [("SCPPort", "1024"), ("SCPPort", "65535"), ("MaximumAssociations", "1"), ("MaximumAssociations", "20000"), ("DIMSETimeout", "5")]
    + [("RequireCallingAETitle", "CT1,MR 2"), ("SupportedSOPClassUIDs", "1.2.840.10008.5.1.4.1.1.2,1.2.840.10008.5.1.4.1.1.4")],
)
def test_the_receiver_takes_what_the_template_takes(name: str, value: str) -> None:
    resolved = resolve(CFN / "main.yaml", LEAST | {name: value})
    accepted(environment(resolved))


@pytest.mark.parametrize("region", ["eu-central-1", "ap-northeast-1", "us-gov-west-1"])
def test_a_region_without_healthimaging_is_refused(region: str) -> None:
    with pytest.raises(TemplateError, match="AWS HealthImaging is in"):
        resolve(CFN / "main.yaml", LEAST, region=region)


def test_each_region_has_its_quota() -> None:
    regions = load(CFN / "workflow.yaml")["Mappings"]["Regions"]
    ((allowed, _),) = [rule["Assert"]["Fn::Contains"] for rule in MAIN["Rules"]["RegionHasHealthImaging"]["Assertions"]]
    assert set(regions) == set(allowed)
    for region, values in regions.items():
        resolved = resolve(CFN / "main.yaml", LEAST, region=region)
        variables = resolved.resources["Workflow/TriggerImportFunction"].properties["Environment"]["Variables"]
        assert variables["CONCURRENT_JOBS"] == values["ConcurrentImportJobs"] == ("20" if region == "ap-southeast-2" else "100")


def test_data_stays_for_longer_than_the_alarm_takes() -> None:
    # The shortest that the pattern lets through, against the longest that an alarm may wait; the rest of the week is for people.
    shortest_days = min(
        days for days in range(1, 100) if re.fullmatch(MAIN["Parameters"]["DicomRetentionDays"]["AllowedPattern"], str(days))
    )
    assert shortest_days * 24 * 60 > 3 * MAIN["Parameters"]["ImportAgeAlarmMinutes"]["MaxValue"]


def test_a_message_is_hidden_for_as_long_as_lambda_asks_for() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html: six times the function's time limit."""
    for timeout in MAIN["Parameters"]["TriggerTimeout"]["AllowedValues"]:
        resources = resolve(CFN / "main.yaml", LEAST | {"TriggerTimeout": timeout}).resources
        assert resources["Workflow/TriggerImportFunction"].properties["Timeout"] == timeout
        assert int(resources["Storage/ImportQueue"].properties["VisibilityTimeout"]) == 6 * int(timeout)


def test_the_user_of_the_container_is_that_of_the_image() -> None:
    said = re.search(r"^USER (\S+)$", (CFN.parent / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert said
    definition = resolve(CFN / "main.yaml", LEAST).resources["Receiver/TaskDefinition"].properties["ContainerDefinitions"][0]
    assert definition["User"] == said[1]


def test_the_template_is_read_as_it_is_written() -> None:
    assert resolve(CFN / "main.yaml", LEAST, region=REGION).outputs["DICOMPort"] == "11112"
    assert resolve(CFN / "main.yaml", LEAST | {"TLSCertificateARN": CERTIFICATE}).outputs["DICOMPort"] == "2762"
