"""What the workflow relies on as rules over resolved templates: events, queues, tables, functions, schedule; see guard.py."""

import json
import re
from collections.abc import Iterator
from typing import Any

from fastscp.batches import Keys
from fastscp.local.templates import Resolved
from importflow.settings import load
from tests.templates.deployments import ACCOUNT, CFN, REGION, of_type
from tests.templates.guard import policies_of, rule

BATCH = "00112233445566aa-019abcdef012"
FUNCTIONS = ("TriggerImport", "StartImportJob", "CheckStatus", "SweepBatches")
DEFINITION = json.loads((CFN / "statemachine" / "import.asl.json").read_text(encoding="utf-8"))
# The table of docs/workflow.md.
TABLES = {
    "Batch": ("batchId", {"byState": ("state", "updatedAt"), "byStudy": ("studyInstanceUID", "closedAt")}),
    "Job": ("jobId", {"byBatch": ("batchId", "submittedAt")}),
}


def function(resolved: Resolved, name: str) -> dict[str, Any]:
    return resolved.resources[f"Workflow/{name}Function"].properties


def environment(resolved: Resolved, name: str = "TriggerImport") -> dict[str, str]:
    return {key: str(value) for key, value in function(resolved, name)["Environment"]["Variables"].items()}


def substituted(resolved: Resolved) -> dict[str, str]:
    substitutions: dict[str, str] = resolved.resources["Workflow/ImportStateMachine"].properties["DefinitionSubstitutions"]
    return substitutions


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@rule
def manifests_and_inbox_files_reach_the_queue(resolved: Resolved) -> Iterator[str]:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{resolved.resources['Storage/ImportQueue'].ref.rpartition('/')[2]}"
    keys = Keys(environment(resolved)["DICOM_PREFIX"])
    found = resolved.resources["Storage/DicomBucket"].properties["NotificationConfiguration"]["QueueConfigurations"]

    def takers(key: str) -> int:
        hits = 0
        for one in found:
            filters = {r["Name"]: r["Value"] for r in one["Filter"]["S3Key"]["Rules"]}
            hits += key.startswith(filters["prefix"]) and key.endswith(filters["suffix"]) and one["Queue"] == queue
        return hits

    for key in (keys.manifest(BATCH), f"{keys.inbox}somebody/file.dcm"):
        if takers(key) != 1:
            yield f"an event of {key} reaches the queue {takers(key)} times"
    for key in (keys.instance(BATCH, "1", "2", "3"), keys.marker(BATCH), f"{keys.quarantine}{BATCH}/1/2/3.dcm", f"{keys.inbox}readme.txt"):
        if takers(key):
            yield f"an event of {key} reaches the queue"
    for one in found:
        if one["Event"] != "s3:ObjectCreated:*":
            yield f"{one['Event']} misses multipart uploads or copies"
    policy = resolved.resources["Storage/ImportQueuePolicy"].properties["PolicyDocument"]["Statement"]
    sends = ("Allow", {"Service": "s3.amazonaws.com"}, "sqs:SendMessage", queue)
    allowed = [s for s in policy if (s["Effect"], s["Principal"], s["Action"], s["Resource"]) == sends]
    if len(allowed) != 1 or allowed[0]["Condition"]["StringEquals"]["aws:SourceAccount"] != ACCOUNT:
        yield "the bucket may not send to the queue, or anybody's may"


@rule
def messages_are_tried_and_then_kept(resolved: Resolved) -> Iterator[str]:
    queue = resolved.resources["Storage/ImportQueue"].properties
    mapping = resolved.resources["Workflow/TriggerImportEvents"].properties
    dead = resolved.resources["Storage/ImportDeadLetterQueue"].ref.rpartition("/")[2]
    if int(queue["VisibilityTimeout"]) < 6 * int(function(resolved, "TriggerImport")["Timeout"]):
        yield "a message is seen again while it is worked on"
    if queue["RedrivePolicy"] != {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{dead}", "maxReceiveCount": 5}:
        yield "a message that cannot be worked on is not kept"
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{resolved.resources['Storage/ImportQueue'].ref.rpartition('/')[2]}"
    trigger = resolved.resources["Workflow/TriggerImportFunction"].ref
    if mapping["EventSourceArn"] != arn or mapping["FunctionName"].rpartition(":")[2] != trigger:
        yield "the queue does not reach trigger_import"
    if mapping["FunctionResponseTypes"] != ["ReportBatchItemFailures"] or mapping["BatchSize"] != 10:
        yield "one bad message holds up others"
    # Of the least that FunctionConcurrency may be, half is left to the state machine.
    if not 2 <= mapping.get("ScalingConfig", {}).get("MaximumConcurrency", 1000) <= 5:
        yield "a burst of events keeps the state machine from its function"


@rule
def the_tables_are_those_of_the_workflow(resolved: Resolved) -> Iterator[str]:
    for name, (key, indexes) in TABLES.items():
        table = resolved.resources[f"Storage/DicomImport{name}Table"]
        if environment(resolved)[f"{name.upper()}_TABLE"] != table.ref:
            yield f"{name}: the functions have another table"
        if table.properties["KeySchema"] != [{"AttributeName": key, "KeyType": "HASH"}]:
            yield f"{name}: another key"
        found = {}
        for index in table.properties["GlobalSecondaryIndexes"]:
            schema = {part["KeyType"]: part["AttributeName"] for part in index["KeySchema"]}
            found[index["IndexName"]] = (schema["HASH"], schema["RANGE"])
            if index["Projection"] != {"ProjectionType": "ALL"}:
                yield f"{name}: {index['IndexName']} lacks attributes"
        if found != indexes:
            yield f"{name}: other indexes"
        used = {key, *(attribute for pair in indexes.values() for attribute in pair)}
        if {(a["AttributeName"], a["AttributeType"]) for a in table.properties["AttributeDefinitions"]} != {(a, "S") for a in used}:
            yield f"{name}: other attributes"


@rule
def the_functions_have_their_environment(resolved: Resolved) -> Iterator[str]:
    buckets = {name: resolved.resources[f"Storage/{name.title()}Bucket"].ref for name in ("dicom", "results")}
    for name in FUNCTIONS:
        given = environment(resolved, name)
        try:
            settings = load(given)
        except (KeyError, ValueError) as error:
            yield f"{name}: {error!r}"
            continue
        if {"dicom": settings.dicom_bucket, "results": settings.results_bucket} != buckets:
            yield f"{name}: other buckets"
        if settings.state_machine_arn != resolved.resources["Workflow/ImportStateMachine"].ref:
            yield f"{name}: another state machine"
        if settings.data_access_role_arn != f"arn:aws:iam::{ACCOUNT}:role/{resolved.resources['Workflow/DataAccessRole'].ref}":
            yield f"{name}: another data access role"
        store = resolved.resources.get("Storage/Datastore")
        if settings.datastore_id != (store.ref if store else "0" * 32):
            yield f"{name}: another data store"
        if given["POWERTOOLS_METRICS_NAMESPACE"] != "fastscp" or given["POWERTOOLS_SERVICE_NAME"] != "fastscp":
            yield f"{name}: metrics that no alarm reads"
        if given != environment(resolved):
            yield f"{name}: another environment than trigger_import"
        if function(resolved, name)["Handler"] != f"{snake(name)}.handler.handler":
            yield f"{name}: another handler"
        if function(resolved, name)["Code"] != {"S3Bucket": "artefacts", "S3Key": "fastscp/0123/lambdas.zip"}:
            yield f"{name}: another package"


@rule
def the_state_machine_calls_the_functions(resolved: Resolved) -> Iterator[str]:
    wanted = {f"{name}FunctionArn" for name in FUNCTIONS[:3]}
    if set(re.findall(r"\$\{(\w+)\}", json.dumps(DEFINITION))) != wanted or set(substituted(resolved)) != wanted:
        yield "substitutions that the definition has not, or the other way round"
    for name, arn in substituted(resolved).items():
        called = resolved.resources.get(f"Workflow/{name.removesuffix('Arn')}")
        if called is None or arn.rpartition(":")[2] != called.ref:
            yield f"{name} is another function"
    role = resolved.resources["Workflow/StateMachineRole"]
    invoked = [s["Resource"] for s in policies_of(role, resolved) if s["Action"] == "lambda:InvokeFunction"]
    if invoked != [list(substituted(resolved).values())]:
        yield "the state machine may call other functions than it does"
    for name, state in DEFINITION["States"].items():
        if state["Type"] == "Task":
            match = re.fullmatch(r"\$\{(\w+)FunctionArn\}", state["Parameters"]["FunctionName"])
            if not match or state["TimeoutSeconds"] <= int(function(resolved, match[1])["Timeout"]):
                yield f"state {name} gives up before its function does"
    machine = resolved.resources["Workflow/ImportStateMachine"].properties
    if machine["DefinitionS3Location"] != {"Bucket": "artefacts", "Key": "fastscp/0123/import.asl.json"}:
        yield "another definition"
    if machine["StateMachineType"] != "STANDARD":
        yield "another definition"


@rule
def the_sweeper_runs(resolved: Resolved) -> Iterator[str]:
    schedule = resolved.resources["Workflow/SweepSchedule"].properties
    sweeper = resolved.resources["Workflow/SweepBatchesFunction"].ref
    if schedule["ScheduleExpression"] != "rate(5 minutes)" or schedule["Target"]["Arn"].rpartition(":")[2] != sweeper:
        yield "the schedule does not call the sweeper every five minutes"
    retries = {"MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 300}
    if (
        schedule["FlexibleTimeWindow"] != {"Mode": "OFF"}
        or schedule["Target"]["RetryPolicy"] != retries
        or schedule["Target"]["Input"] != "{}"
    ):
        yield "the schedule calls late, or again and again, or with something"
    role = resolved.resources["Workflow/SweepScheduleRole"]
    allowed = {s["Action"]: s["Resource"] for s in policies_of(role, resolved) if isinstance(s["Action"], str)}
    if (
        allowed.get("lambda:InvokeFunction") != schedule["Target"]["Arn"]
        or allowed.get("sqs:SendMessage") != schedule["Target"]["DeadLetterConfig"]["Arn"]
    ):
        yield "the schedule may not call the sweeper, or not give up"

    asked = [
        s["Resource"]
        for s in policies_of(resolved.resources["Workflow/SweepBatchesRole"], resolved)
        if s["Action"] == "states:DescribeExecution"
    ]
    if asked != [resolved.resources["Workflow/ImportStateMachine"].ref.replace(":stateMachine:", ":execution:") + ":*"]:
        yield "the sweeper may not ask what has become of an execution"


@rule
def every_alarm_tells_somebody(resolved: Resolved) -> Iterator[str]:
    topic = resolved.resources["Monitoring/AlarmTopic"].ref
    for path, alarm in of_type(resolved, "AWS::CloudWatch::Alarm"):
        if not alarm.properties.get("AlarmActions") == alarm.properties.get("OKActions") == [topic]:
            yield f"{path} tells nobody"
        if "First:" not in alarm.properties["AlarmDescription"]:
            yield f"{path} says not what to do first"
        if alarm.properties.get("TreatMissingData") not in ("notBreaching", "breaching"):
            yield f"{path} does not say what silence means"
    said = resolved.resources["Monitoring/AlarmTopicPolicy"].properties["PolicyDocument"]["Statement"]
    here = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    by_cloudwatch = ("Allow", {"Service": "cloudwatch.amazonaws.com"}, "sns:Publish", topic, here)
    if [(s["Effect"], s["Principal"], s["Action"], s["Resource"], s["Condition"]) for s in said if s["Effect"] == "Allow"] != [
        by_cloudwatch
    ]:
        yield "alarms may not be published, or others may publish"
    for path, one in of_type(resolved, "AWS::Logs::MetricFilter"):
        values = {(made["MetricValue"], made["DefaultValue"]) for made in one.properties["MetricTransformations"]}
        if one.properties["LogGroupName"] != resolved.resources["Receiver/LogGroup"].ref or values != {("1", 0)}:
            yield f"{path} counts something else"
    for path, subscription in of_type(resolved, "AWS::SNS::Subscription"):
        if subscription.properties != {"TopicArn": topic, "Protocol": "email", "Endpoint": "alarms@example.org"}:
            yield f"{path} tells somebody else"


def metrics_of_alarms(resolved: Resolved) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of every metric that an alarm looks at."""
    for _, alarm in of_type(resolved, "AWS::CloudWatch::Alarm"):
        properties = alarm.properties
        found = [m["MetricStat"]["Metric"] for m in properties.get("Metrics", []) if "MetricStat" in m] or [properties]
        for one in found:
            yield one["Namespace"], one["MetricName"], {d["Name"]: str(d["Value"]) for d in one.get("Dimensions", [])}
