"""The promises of docs/security.md as rules over resolved templates: each takes a deployment and tells what breaks it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from fastscp.local.templates import Resolved, Resource
from tests.templates.deployments import ACCOUNT, REGION, of_type

Rule = Callable[[Resolved], Iterator[str]]
RULES: dict[str, Rule] = {}

ANY_RESOURCE = {
    # What has no resource that a policy could name, by IAM's own tables.
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
    "ecr:GetAuthorizationToken",
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
}
TLS_POLICIES = {"ELBSecurityPolicy-TLS13-1-2-Res-2021-06", "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"}


def rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def policies_of(role: Resource, resolved: Resolved) -> list[dict[str, Any]]:
    """The statements of a role: its own, and those of the managed policies of these templates."""
    documents = [policy["PolicyDocument"] for policy in role.properties.get("Policies", [])]
    for arn in role.properties.get("ManagedPolicyArns", []):
        documents += [
            policy.properties["PolicyDocument"] for _, policy in of_type(resolved, "AWS::IAM::ManagedPolicy") if policy.ref == arn
        ]
    return [statement for document in documents for statement in document["Statement"]]


def attributes(pairs: list[dict[str, str]]) -> dict[str, str]:
    return {pair["Key"]: str(pair["Value"]) for pair in pairs}


def bucket(resolved: Resolved, name: str) -> Resource:
    return resolved.resources[f"Storage/{name}Bucket"]


@rule
def buckets_are_private(resolved: Resolved) -> Iterator[str]:
    for path, found in of_type(resolved, "AWS::S3::Bucket"):
        block = found.properties.get("PublicAccessBlockConfiguration", {})
        if set(block) != {"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} or not all(block.values()):
            yield f"{path} is not blocked for the public"
        if found.properties["OwnershipControls"]["Rules"] != [{"ObjectOwnership": "BucketOwnerEnforced"}]:
            yield f"{path} has ACLs"
        if found.properties.get("AccelerateConfiguration", {}).get("AccelerationStatus", "Suspended") != "Suspended":
            yield f"{path} is reachable through transfer acceleration"


@rule
def only_tls_reaches_data(resolved: Resolved) -> Iterator[str]:
    policies = {
        "AWS::S3::Bucket": ("AWS::S3::BucketPolicy", "Bucket", "s3:*"),
        "AWS::SQS::Queue": ("AWS::SQS::QueuePolicy", "Queues", "sqs:*"),
        "AWS::SNS::Topic": ("AWS::SNS::TopicPolicy", "Topics", "sns:Publish"),
    }
    for kind, (policy_kind, member, actions) in policies.items():
        for path, found in of_type(resolved, kind):
            mine = [policy for _, policy in of_type(resolved, policy_kind) if found.ref in as_list(policy.properties[member])]
            name = found.ref.rpartition("/")[2]
            arns = {
                "AWS::S3::Bucket": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
                "AWS::SQS::Queue": [f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"],
                "AWS::SNS::Topic": [found.ref],
            }
            denied = [
                s["Condition"]
                for policy in mine
                for s in policy.properties["PolicyDocument"]["Statement"]
                if (s["Effect"], s["Principal"], s["Action"], as_list(s["Resource"])) == ("Deny", "*", actions, arns[kind])
            ]
            if {"Bool": {"aws:SecureTransport": "false"}} not in denied:
                yield f"{path} takes requests without TLS"
            if kind == "AWS::S3::Bucket" and {"NumericLessThan": {"s3:TlsVersion": "1.2"}} not in denied:
                yield f"{path} takes TLS before 1.2"


@rule
def data_is_encrypted(resolved: Resolved) -> Iterator[str]:
    key = key_of(resolved)
    for path, found in of_type(resolved, "AWS::S3::Bucket"):
        default = found.properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]
        wanted = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key} if key and "AccessLog" not in path else {"SSEAlgorithm": "AES256"}
        if default != wanted:
            yield f"{path} is encrypted with {default}"
    for path, found in of_type(resolved, "AWS::SQS::Queue"):
        wanted = {"KmsMasterKeyId": key} if key else {"SqsManagedSseEnabled": True}
        if {k: v for k, v in found.properties.items() if k in ("KmsMasterKeyId", "SqsManagedSseEnabled")} != wanted:
            yield f"{path} is not encrypted as it should be"
    members = {
        "AWS::SNS::Topic": "KmsMasterKeyId",
        "AWS::Logs::LogGroup": "KmsKeyId",
        "AWS::HealthImaging::Datastore": "KmsKeyArn",
        "AWS::DynamoDB::Table": "SSESpecification",
    }
    for kind, member in members.items():
        for path, found in of_type(resolved, kind):
            value = found.properties.get(member)
            if (value["KMSMasterKeyId"] if isinstance(value, dict) else value) != key:
                yield f"{path} is not encrypted with {key}"


def key_of(resolved: Resolved) -> str | None:
    """ARN of the customer's key, None where there is none."""
    statements = [
        s for _, role in of_type(resolved, "AWS::IAM::Role") for s in policies_of(role, resolved) if s.get("Sid") == "CustomerKey"
    ]
    arns = {s["Resource"] for s in statements}
    assert len(arns) <= 1, arns
    return arns.pop() if arns else None


@rule
def the_key_is_used_through_services_only(resolved: Resolved) -> Iterator[str]:
    for path, role in of_type(resolved, "AWS::IAM::Role"):
        for statement in policies_of(role, resolved):
            actions = {a for a in as_list(statement["Action"]) if a.startswith("kms:")}
            if statement["Effect"] == "Allow" and actions:
                vias = as_list(statement.get("Condition", {}).get("StringEquals", {}).get("kms:ViaService", []))
                if not vias or not actions <= {"kms:Decrypt", "kms:GenerateDataKey"}:
                    yield f"{path} may use the key for more than reading and writing"
                calls = {a.partition(":")[0] for s in policies_of(role, resolved) for a in as_list(s["Action"]) if s["Effect"] == "Allow"}
                for via in vias:
                    if via.partition(".")[0] not in calls:
                        yield f"{path} may use the key through {via}, which it does not call"
    for _, key in of_type(resolved, "AWS::KMS::Key"):
        if not key.properties["EnableKeyRotation"]:
            yield "the key is not rotated"
        for statement in key.properties["KeyPolicy"]["Statement"]:
            if "Service" in statement["Principal"] and not statement.get("Condition"):
                yield f"{statement['Sid']}: the service may be anybody's"


@rule
def nothing_waiting_for_a_person_expires(resolved: Resolved) -> Iterator[str]:
    for path, found in of_type(resolved, "AWS::S3::Bucket"):
        rules = found.properties["LifecycleConfiguration"]["Rules"]
        if not any(r.get("AbortIncompleteMultipartUpload") and not r.get("Prefix") and r["Status"] == "Enabled" for r in rules):
            yield f"{path} keeps incomplete uploads"
        if path == "Storage/DicomBucket":
            first = found.properties["NotificationConfiguration"]["QueueConfigurations"][0]
            root = first["Filter"]["S3Key"]["Rules"][0]["Value"].removesuffix("batches/")
            for expiring in (r for r in rules if "ExpirationInDays" in r):
                for kept in (f"{root}quarantine/", f"{root}open/"):
                    if kept.startswith(expiring.get("Prefix", "")) or expiring.get("Prefix", "").startswith(kept):
                        yield f"{expiring['Id']} expires {kept}"
    if not any("ExpirationInDays" in r for r in bucket(resolved, "Results").properties["LifecycleConfiguration"]["Rules"]):
        yield "results do not expire"


@rule
def accesses_are_logged(resolved: Resolved) -> Iterator[str]:
    log = bucket(resolved, "AccessLog").ref
    for name in ("Dicom", "Results"):
        if bucket(resolved, name).properties.get("LoggingConfiguration", {}).get("DestinationBucketName") != log:
            yield f"{name}: accesses are not logged"
    for path, group in of_type(resolved, "AWS::Logs::LogGroup"):
        if str(group.properties.get("RetentionInDays")) != "365":
            yield f"{path} does not keep records as LogRetentionDays says"
    for path, function in of_type(resolved, "AWS::Lambda::Function"):
        if function.properties.get("LoggingConfig") != {
            "LogGroup": resolved.resources["Workflow/FunctionLogGroup"].ref,
            "LogFormat": "Text",
        }:
            yield f"{path} logs elsewhere"
    steps = resolved.resources["Workflow/StateMachineLogGroup"].ref
    destination = {"CloudWatchLogsLogGroup": {"LogGroupArn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{steps}:*"}}
    if not steps.startswith("/aws/vendedlogs/states/"):
        yield "the log of the state machine counts against the account's ten resource policies"
    machine = resolved.resources["Workflow/ImportStateMachine"].properties
    if machine["LoggingConfiguration"] != {"Level": "ALL", "IncludeExecutionData": True, "Destinations": [destination]}:
        yield "the state machine does not log"
    if not machine["TracingConfiguration"]["Enabled"]:
        yield "the state machine does not trace"


@rule
def tables_can_be_restored(resolved: Resolved) -> Iterator[str]:
    for path, table in of_type(resolved, "AWS::DynamoDB::Table"):
        if table.properties.get("PointInTimeRecoverySpecification") != {"PointInTimeRecoveryEnabled": True}:
            yield f"{path} has no point-in-time recovery"
        if not table.properties.get("DeletionProtectionEnabled") or table.properties["BillingMode"] != "PAY_PER_REQUEST":
            yield f"{path} can be deleted, or has a capacity"


@rule
def roles_hold_no_more_than_they_name(resolved: Resolved) -> Iterator[str]:
    for path, role in of_type(resolved, "AWS::IAM::Role"):
        for statement in policies_of(role, resolved):
            if statement["Effect"] != "Allow":
                continue
            for action in as_list(statement["Action"]):
                if "*" in action:
                    yield f"{path} may do {action}"
                if "*" in as_list(statement["Resource"]) and action not in ANY_RESOURCE:
                    yield f"{path} may {action} everything"
        if any(arn.startswith("arn:aws:iam::aws:") for arn in role.properties.get("ManagedPolicyArns", [])):
            yield f"{path} has a policy of AWS, which AWS changes"


@rule
def roles_are_taken_by_one_service_for_this_account(resolved: Resolved) -> Iterator[str]:
    for path, role in of_type(resolved, "AWS::IAM::Role"):
        for statement in role.properties["AssumeRolePolicyDocument"]["Statement"]:
            if set(statement["Principal"]) != {"Service"} or not isinstance(statement["Principal"]["Service"], str):
                yield f"{path} is taken by {statement['Principal']}"
            # Lambda says nothing of the source when it takes a role; iam:PassRole guards that.
            account = statement.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount")
            if statement["Principal"] != {"Service": "lambda.amazonaws.com"} and account != ACCOUNT:
                yield f"{path} is taken for any account"


@rule
def healthimaging_acts_for_this_data_store_only(resolved: Resolved) -> Iterator[str]:
    role = resolved.resources["Workflow/DataAccessRole"]
    environment = resolved.resources["Workflow/StartImportJobFunction"].properties["Environment"]["Variables"]
    store = f"arn:aws:medical-imaging:{REGION}:{ACCOUNT}:datastore/{environment['DATASTORE_ID']}"
    condition = role.properties["AssumeRolePolicyDocument"]["Statement"][0].get("Condition", {})
    if condition.get("ArnEquals", {}).get("aws:SourceArn") != store:
        yield "the data access role is taken for another data store"
    for path, other in of_type(resolved, "AWS::IAM::Role"):
        for statement in policies_of(other, resolved):
            if "iam:PassRole" in as_list(statement["Action"]):
                passed = statement.get("Condition", {}).get("StringEquals", {}).get("iam:PassedToService")
                if statement["Resource"] != f"arn:aws:iam::{ACCOUNT}:role/{role.ref}" or passed != "medical-imaging.amazonaws.com":
                    yield f"{path} may pass {statement['Resource']} to {passed}"


@rule
def each_function_has_a_role_of_its_own(resolved: Resolved) -> Iterator[str]:
    roles = [function.properties["Role"] for _, function in of_type(resolved, "AWS::Lambda::Function")]
    if len(set(roles)) != len(roles) or len(roles) != 4:
        yield "functions share a role"
    for path, function in of_type(resolved, "AWS::Lambda::Function"):
        if len(function.properties.get("VpcConfig", {}).get("SubnetIds", [])) < 2:
            yield f"{path} is not in the VPC"
        if not function.properties["Role"].endswith(f":role/{resolved.resources[path.removesuffix('Function') + 'Role'].ref}"):
            yield f"{path} has another role"
        if function.properties["VpcConfig"]["SecurityGroupIds"] != [resolved.resources["Network/FunctionSecurityGroup"].ref]:
            yield f"{path} has another security group"
        if function.properties["TracingConfig"] != {"Mode": "Active"}:
            yield f"{path} is not traced"
        if (function.properties["Runtime"], function.properties["Architectures"]) != ("python3.12", ["arm64"]):
            yield f"{path} runs on something that the package is not tried on"
        sizes = {str(function.properties.get(name)) for name in ("MemorySize", "ReservedConcurrentExecutions")}
        if sizes not in ({"1024", "None"}, {"2048", "20"}):
            yield f"{path}: FunctionMemory or FunctionConcurrency does not reach it"


@rule
def functions_cannot_use_what_lambda_needs(resolved: Resolved) -> Iterator[str]:
    for path, role in of_type(resolved, "AWS::IAM::Role"):
        statements = policies_of(role, resolved)
        if any(action.startswith("ec2:") for s in statements if s["Effect"] == "Allow" for action in as_list(s["Action"])):
            denied = [s for s in statements if s["Effect"] == "Deny" and s["Action"] == "ec2:*" and s["Resource"] == "*"]
            of_code = {"ArnLike": {"lambda:SourceFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:*"}}
            if [s["Condition"] for s in denied] != [of_code]:
                yield f"{path} lets code make network interfaces"


@rule
def leaving_the_vpc_is_refused_where_asked_for(resolved: Resolved) -> Iterator[str]:
    conditions = [p for _, p in of_type(resolved, "AWS::IAM::ManagedPolicy") if "OnlyFromTheVpc" in json.dumps(p.properties)]
    for condition in conditions:
        for path, role in of_type(resolved, "AWS::IAM::Role"):
            workload = path.startswith("Workflow/") and path.removesuffix("Role") + "Function" in resolved.resources
            if (workload or path == "Receiver/TaskRole") and condition.ref not in role.properties.get("ManagedPolicyArns", []):
                yield f"{path} may leave the VPC"
