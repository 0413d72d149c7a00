"""What policies hold, statement by statement: roles that are not a function's own calls, the key, the log bucket; see guard.py."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastscp.batches import Keys
from fastscp.local.templates import Resolved
from tests.templates.deployments import ACCOUNT, CUSTOMER_KEY, REGION, VARIANTS, of_type
from tests.templates.guard import as_list, bucket, key_of, policies_of, rule

FUNCTIONS = ("TriggerImport", "StartImportJob", "CheckStatus", "SweepBatches")
LAMBDAS_OWN = ("logs:", "xray:", "ec2:", "sqs:")
KEY_ACTIONS = {"kms:Decrypt", "kms:GenerateDataKey"}
# What each role does with a customer's key, and through which services. S3 decrypts for multipart uploads, SQS for every message.
KEY_USES = {
    "Receiver/TaskRole": (KEY_ACTIONS, {"s3"}),
    "Workflow/TriggerImportRole": (KEY_ACTIONS, {"s3", "dynamodb", "sqs"}),
    "Workflow/StartImportJobRole": ({"kms:Decrypt"}, {"dynamodb"}),
    "Workflow/CheckStatusRole": (KEY_ACTIONS, {"s3", "dynamodb"}),
    "Workflow/SweepBatchesRole": (KEY_ACTIONS, {"s3", "dynamodb"}),
    "Workflow/DataAccessRole": (KEY_ACTIONS, {"s3"}),
    "Workflow/SweepScheduleRole": (KEY_ACTIONS, {"sqs"}),
}
# https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html and .../xray-iam.html
STATE_MACHINE = {
    *(f"logs:{verb}LogDelivery" for verb in ("Create", "Get", "Update", "Delete")),
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
    *(f"xray:{action}" for action in ("PutTraceSegments", "PutTelemetryRecords", "GetSamplingRules", "GetSamplingTargets")),
}
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
INTERFACES = {
    *(f"ec2:{verb}NetworkInterface" for verb in ("Create", "Delete")),
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
}

# Where a service says in whose name it asks for a role, the role asks: these and no others, beside the account.
SOURCES = {
    "Receiver/TaskRole": {"ArnLike": {"aws:SourceArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:*"}},
    "Network/FlowLogRole": {"ArnLike": {"aws:SourceArn": f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc-flow-log/*"}},
    "Workflow/StateMachineRole": {"ArnEquals": {"aws:SourceArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:fastscp-import"}},
}
Pairs = set[tuple[str, str]]


def on(resource: str, *actions: str) -> Pairs:
    return {(action, resource) for action in actions}


def allowed(statements: Iterable[dict[str, Any]]) -> Pairs:
    return {
        (action, resource)
        for statement in statements
        if statement["Effect"] == "Allow" and statement.get("Sid") != "CustomerKey"
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def arn_of(resolved: Resolved, path: str) -> str:
    """ARN of a function, a queue, a bucket or of what is in a log group."""
    found = resolved.resources[path]
    name = found.ref.rpartition("/")[2] if found.type != "AWS::Logs::LogGroup" else found.ref
    forms = {
        "AWS::S3::Bucket": f"arn:aws:s3:::{name}",
        "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
        "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}",
        "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*",
    }
    return forms[found.type]


def expected(resolved: Resolved) -> dict[str, tuple[str, Pairs]]:
    """By role: who takes it, and what it may do to what. Of functions only what Lambda does in their name: test_roles.py has the rest."""
    variables = resolved.resources["Workflow/TriggerImportFunction"].properties["Environment"]["Variables"]
    dicom, results = arn_of(resolved, "Storage/DicomBucket"), arn_of(resolved, "Storage/ResultsBucket")
    keys, output = Keys(variables["DICOM_PREFIX"]), "/".join(filter(None, (variables["RESULTS_PREFIX"], "output/*")))
    instances = f"{dicom}/{keys.open.removesuffix('open/')}instances/*"
    write = ("logs:CreateLogStream", "logs:PutLogEvents")
    repository = VARIANTS["defaults"]["RepositoryArn"]
    functions = {name: arn_of(resolved, f"Workflow/{name}Function") for name in FUNCTIONS}
    found = {
        "Receiver/ExecutionRole": (
            "ecs-tasks",
            on("*", "ecr:GetAuthorizationToken")
            | on(repository, "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
            | on(arn_of(resolved, "Receiver/LogGroup"), *write),
        ),
        "Receiver/TaskRole": (
            "ecs-tasks",
            on(instances, "s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject")
            | on(f"{dicom}/{keys.open}*", "s3:PutObject", "s3:DeleteObject")
            | on(f"{dicom}/{keys.open.removesuffix('open/')}batches/*", "s3:PutObject")
            | on(f"{dicom}/{keys.open.removesuffix('open/')}.check", "s3:PutObject", "s3:AbortMultipartUpload"),
        ),
        "Workflow/DataAccessRole": (
            "medical-imaging",
            on(dicom, "s3:ListBucket", "s3:GetEncryptionConfiguration")
            | on(results, "s3:ListBucket", "s3:GetEncryptionConfiguration")
            | on(instances, "s3:GetObject")
            | on(f"{results}/{output}", "s3:PutObject"),
        ),
        "Workflow/StateMachineRole": (
            "states",
            {("lambda:InvokeFunction", functions[name]) for name in FUNCTIONS[:3]} | on("*", *STATE_MACHINE),
        ),
        "Workflow/SweepScheduleRole": (
            "scheduler",
            on(functions["SweepBatches"], "lambda:InvokeFunction")
            | on(arn_of(resolved, "Workflow/SweepDeadLetterQueue"), "sqs:SendMessage"),
        ),
    }
    for name in FUNCTIONS:
        own = on(arn_of(resolved, "Workflow/FunctionLogGroup"), *write) | on(
            "*", "xray:PutTraceSegments", "xray:PutTelemetryRecords", *INTERFACES
        )
        if name == "TriggerImport":
            own |= on(arn_of(resolved, "Storage/ImportQueue"), "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
        found[f"Workflow/{name}Role"] = ("lambda", own)
    if "Network/FlowLogRole" in resolved.resources:
        found["Network/FlowLogRole"] = ("vpc-flow-logs", on(arn_of(resolved, "Network/FlowLogGroup"), *write, "logs:DescribeLogStreams"))
    return found


@rule
def services_hold_what_they_do_for_us(resolved: Resolved) -> Iterator[str]:
    wanted = expected(resolved)
    roles = dict(of_type(resolved, "AWS::IAM::Role"))
    if set(roles) != set(wanted):
        yield f"roles: {set(roles) ^ set(wanted)}"
    for path, (service, pairs) in wanted.items():
        (trust,) = roles[path].properties["AssumeRolePolicyDocument"]["Statement"]
        if (trust["Effect"], trust["Action"], trust["Principal"]) != ("Allow", "sts:AssumeRole", {"Service": f"{service}.amazonaws.com"}):
            yield f"{path} is not taken by {service}"
        sources = {kind: keys for kind, keys in trust.get("Condition", {}).items() if kind != "StringEquals"}
        if path != "Workflow/DataAccessRole" and sources != SOURCES.get(path, {}):
            yield f"{path} is taken for {sources}"
        found = allowed(policies_of(roles[path], resolved))
        if service == "lambda":
            found = {pair for pair in found if pair[0].startswith(LAMBDAS_OWN)}
        if found != pairs:
            yield f"{path}: {sorted(found ^ pairs)}"


@rule
def roles_use_the_key_as_they_need_it(resolved: Resolved) -> Iterator[str]:
    key = key_of(resolved)
    found = {}
    for path, role in of_type(resolved, "AWS::IAM::Role"):
        for statement in policies_of(role, resolved):
            if statement.get("Sid") == "CustomerKey":
                vias = {
                    via.partition(f".{REGION}.amazonaws.com")[0]
                    for via in as_list(statement["Condition"]["StringEquals"]["kms:ViaService"])
                }
                found[path] = (set(as_list(statement["Action"])), vias)
    for path in set(found) | set(KEY_USES) if key else found:
        if found.get(path) != KEY_USES.get(path):
            yield f"{path} has {found.get(path)} of the key"


@rule
def a_key_that_is_made_admits_who_writes_with_it(resolved: Resolved) -> Iterator[str]:
    here = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    of_logs = {"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"}
    groups = {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:*"}}
    wanted = [
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, {"kms:*"}, None),
        ({"Service": "s3.amazonaws.com"}, KEY_ACTIONS, here),
        ({"Service": "cloudwatch.amazonaws.com"}, KEY_ACTIONS, here),
        ({"Service": f"logs.{REGION}.amazonaws.com"}, of_logs, groups),
    ]
    for path, key in of_type(resolved, "AWS::KMS::Key"):
        if key_of(resolved) in (None, CUSTOMER_KEY):
            yield f"{path} is made, and nothing uses it"
        statements = key.properties["KeyPolicy"]["Statement"]
        if any((s["Effect"], s["Resource"]) != ("Allow", "*") for s in statements):
            yield f"{path}: a statement is about something else"
        if [(s["Principal"], set(as_list(s["Action"])), s.get("Condition")) for s in statements] != wanted:
            yield f"{path} admits others, or not all"


@rule
def logs_reach_their_bucket(resolved: Resolved) -> Iterator[str]:
    arn, log = arn_of(resolved, "Storage/AccessLogBucket"), bucket(resolved, "AccessLog")
    policy = resolved.resources["Storage/AccessLogBucketPolicy"].properties
    found = [
        (s["Principal"]["Service"].removesuffix(".amazonaws.com"), s["Action"], s["Resource"], s["Condition"]["StringEquals"])
        for s in policy["PolicyDocument"]["Statement"]
        if s["Effect"] == "Allow"
    ]
    wanted = [("logging.s3", "s3:PutObject", f"{arn}/s3/*", {"aws:SourceAccount": ACCOUNT})]
    for name in ("Dicom", "Results"):
        if not bucket(resolved, name).properties["LoggingConfiguration"]["LogFilePrefix"].startswith("s3/"):
            yield f"{name}: the access log is refused"
    for _, trail in of_type(resolved, "AWS::CloudTrail::Trail"):
        source = {"aws:SourceArn": f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/{trail.properties['TrailName']}"}
        wanted.append(("cloudtrail", "s3:GetBucketAcl", arn, source))
        owned = {"s3:x-amz-acl": "bucket-owner-full-control"}
        wanted.append(("cloudtrail", "s3:PutObject", f"{arn}/cloudtrail/AWSLogs/{ACCOUNT}/*", owned | source))
        if (trail.properties["S3BucketName"], trail.properties["S3KeyPrefix"]) != (log.ref, "cloudtrail"):
            yield "the trail is written elsewhere"
        if not trail.properties["IsLogging"] or not trail.properties["EnableLogFileValidation"]:
            yield "the trail is off, or cannot be validated"
        fields = {
            f["Field"]: f.get("Equals") or f.get("StartsWith") for f in trail.properties["AdvancedEventSelectors"][0]["FieldSelectors"]
        }
        objects = [f"{arn_of(resolved, f'Storage/{name}Bucket')}/" for name in ("Dicom", "Results")]
        if fields != {"eventCategory": ["Data"], "resources.type": ["AWS::S3::Object"], "resources.ARN": objects}:
            yield "the trail is about something else"
    if policy["Bucket"] != log.ref or found != wanted:
        yield f"the log bucket takes {found}"


@rule
def what_was_overwritten_is_kept(resolved: Resolved) -> Iterator[str]:
    for path, found in of_type(resolved, "AWS::S3::Bucket"):
        if found.properties.get("VersioningConfiguration") != {"Status": "Enabled"}:
            yield f"{path} keeps no versions"
        for one in found.properties["LifecycleConfiguration"]["Rules"]:
            old, upload = one.get("NoncurrentVersionExpiration"), one.get("AbortIncompleteMultipartUpload")
            # Markers of batches are written anew every 30 s, and hold what the manifest holds.
            if old and old["NoncurrentDays"] != (1 if one.get("Prefix", "").endswith("open/") else 30):
                yield f"{path}: {one['Id']} keeps old versions for {old['NoncurrentDays']} days"
            if (upload and upload != {"DaysAfterInitiation": 1}) or one["Status"] != "Enabled":
                yield f"{path}: {one['Id']} is off, or keeps parts of uploads for long"
    variables = resolved.resources["Workflow/TriggerImportFunction"].properties["Environment"]["Variables"]
    keys = Keys(variables["DICOM_PREFIX"])
    root = keys.open.removesuffix("open/")
    rules = {one["Prefix"]: one for one in bucket(resolved, "Dicom").properties["LifecycleConfiguration"]["Rules"] if "Prefix" in one}
    if set(rules) != {f"{root}{name}/" for name in ("open", "instances", "inbox", "batches")}:
        yield f"there are rules for {sorted(rules)}"
    elif not rules[keys.open].get("ExpiredObjectDeleteMarker"):
        yield "the listing of open batches grows with delete markers"
    if (
        len({rules[f"{root}{name}/"].get("ExpirationInDays") for name in ("instances", "inbox", "batches") if f"{root}{name}/" in rules})
        != 1
    ):
        yield "DicomRetentionDays holds for a part only"
    for path, queue in of_type(resolved, "AWS::SQS::Queue"):
        if queue.properties.get("MessageRetentionPeriod") != 14 * 86400:
            yield f"{path} forgets messages before somebody has come back from holiday"


@rule
def leaving_the_vpc_is_denied_as_a_whole(resolved: Resolved) -> Iterator[str]:
    for path, policy in of_type(resolved, "AWS::IAM::ManagedPolicy"):
        for statement in policy.properties["PolicyDocument"]["Statement"]:
            if statement["Sid"] == "OnlyFromTheVpc":
                condition = dict(statement["Condition"])
                addresses = condition.pop("NotIpAddress", None)
                vpc = resolved.resources["Receiver/TargetGroup"].properties["VpcId"]
                wanted = {"StringNotEquals": {"aws:SourceVpc": vpc}, "Bool": {"aws:ViaAWSService": "false"}}
                services = ["s3:*", "dynamodb:*", "states:*", "medical-imaging:*"]
                if (statement["Effect"], statement["Action"], statement["Resource"]) != ("Deny", services, "*") or condition != wanted:
                    yield f"{path} denies something else"
                if addresses not in (None, {"aws:SourceIp": ["192.0.2.0/24"]}):
                    yield f"{path} lets in {addresses}"
