"""The embedded AWS is what the templates say: it imports on them as they are, and not where one of them is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastscp.errors import ConfigError
from fastscp.local.deployed import templates_directory
from fastscp.local.embedded import EmbeddedAws, EmbeddedOptions
from fastscp.local.healthimaging import Limits
from fastscp.local.stack import NAMES, Pace, local_stack
from fastscp.local.templates import TemplateError, resolve
from tests.local.running import Local, study_file
from tests.peers.datasets import new_uid
from tests.peers.server import wait_until
from tests.templates.deployments import ACCOUNT, LEAST, changed

WAIT_S = 60.0
COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
PACE = Pace(poll_min_s=1, poll_max_s=1, stuck_after_s=1, visibility_s=1, sweep_interval_s=3600)

MADE = {
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
    "AWS::DynamoDB::Table",
    "AWS::IAM::Role",
    "AWS::Lambda::Function",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Scheduler::Schedule",
    "AWS::StepFunctions::StateMachine",
}


@contextmanager
def embedded(templates: Path) -> Iterator[Local]:
    limits = Limits(submitted_s=0.05, in_progress_s=0.05, file_s=0)
    options = EmbeddedOptions(limits=limits, pace=PACE, events_twice=0, events_late=0, function_processes=1, templates=templates)
    with EmbeddedAws(options) as aws:
        yield Local(aws)


def messages(local: Local, *, taken: bool) -> int:
    """How many messages there are in the queues from which a function takes them, or in all others."""
    mappings = local.aws.resolved.of_type("AWS::Lambda::EventSourceMapping")
    sources = {mapping.properties["EventSourceArn"].rpartition(":")[2] for mapping in mappings}
    names = {queue.ref.rpartition("/")[2] for queue in local.aws.resolved.of_type("AWS::SQS::Queue")}
    found = 0
    for name in names & sources if taken else names - sources:
        url = local.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        found += sum(int(count) for count in local.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=COUNTS)["Attributes"].values())
    return found


def executions(local: Local, status: str) -> int:
    states = local.aws.client("stepfunctions")
    machines = local.aws.resolved.of_type("AWS::StepFunctions::StateMachine")
    return sum(len(states.list_executions(stateMachineArn=one.ref, statusFilter=status)["executions"]) for one in machines)


def wait_outcome(local: Local) -> str:
    """Wait until something has failed for good, or nothing is under way any more. Returns what failed, or nothing."""
    outcome: list[str] = []

    def decided() -> bool:
        # In this order: a message is gone when its execution has been started, and an execution ends when its row has been written.
        idle = messages(local, taken=True) == 0
        idle = idle and executions(local, "RUNNING") == 0
        if executions(local, "FAILED"):
            outcome.append("an execution failed")
        elif messages(local, taken=False):
            outcome.append("a message is in another queue")
        elif idle:
            outcome.append("")
        return bool(outcome)

    wait_until(decided, "what becomes of the import is decided", WAIT_S)
    return outcome[0]


def import_batches(local: Local) -> str:
    """A batch that is closed, and then one that only the sweeper closes. Returns what has not come about, or nothing."""
    for closed in (True, False):
        study = new_uid()
        batch_id, manifest = local.put_open_batch([study_file(study, new_uid(), 1)])
        if closed:
            local.s3.put_object(Bucket=local.bucket, Key=local.keys.manifest(batch_id), Body=manifest)
        else:
            assert local.age_markers(600) == 1
            for schedule in local.aws.schedules:
                if schedule.invoke().failed:
                    return "a scheduled function failed"
        if failed := wait_outcome(local):
            return failed
        rows = local.rows([study])
        if [(row["batchId"], row["state"], row["importedCount"]) for row in rows] != [(batch_id, "DONE", 1)] or not local.image_sets(study):
            return "nothing was imported"
        assert local.result(rows[0])["counts"]["imported"] == 1
        assert list(local.aws.objects.listing(local.bucket, local.keys.open)) == []
    return ""


def test_batches_are_imported_on_the_templates_as_they_are() -> None:
    with embedded(templates_directory()) as local:
        assert import_batches(local) == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "outcome"),
    [
        ("storage.yaml", "Value: !Sub '${DicomRoot}batches/'", "Value: !Sub '${DicomRoot}batch/'", "nothing was imported"),
        ("storage.yaml", "Queue: !GetAtt ImportQueue.Arn", "Queue: !GetAtt ImportDeadLetterQueue.Arn", "a message is in another queue"),
        ("storage.yaml", "AttributeName: jobId", "AttributeName: job", "an execution failed"),
        ("storage.yaml", "Value: !Ref DicomImportBatchTable", "Value: !Ref DicomImportJobTable", "a message is in another queue"),
        ("workflow.yaml", "RESULTS_BUCKET: !Ref ResultsBucketName", "RESULTS_BUCKET: !Ref ServiceName", "an execution failed"),
        ("workflow.yaml", "Handler: check_status.handler", "Handler: check_statuses.handler", "an execution failed"),
        (
            "workflow.yaml",
            "StartImportJobFunctionArn: !GetAtt StartImportJobFunction.Arn",
            "StartImportJobFunctionArn: !GetAtt SweepBatchesFunction.Arn",
            "an execution failed",
        ),
        (
            "workflow.yaml",
            "EventSourceArn: !Ref ImportQueueArn",
            "EventSourceArn: !GetAtt SweepDeadLetterQueue.Arn",
            "a message is in another queue",
        ),
        (
            "workflow.yaml",
            "        Arn: !GetAtt SweepBatchesFunction.Arn",
            "        Arn: !GetAtt CheckStatusFunction.Arn",
            "a scheduled function failed",
        ),
        ("receiver.yaml", "s3://${DicomBucketName}/${DicomRoot}", "s3://${DicomBucketName}/other", "nothing was imported"),
    ],
)
def test_nothing_is_imported_where_a_template_is_wrong(tmp_path: Path, file: str, old: str, new: str, outcome: str) -> None:
    with embedded(changed(tmp_path, file, old, new)) as local:
        assert import_batches(local) == outcome


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("workflow.yaml", "CheckStatusFunctionArn: !GetAtt", "CheckFunctionArn: !GetAtt", "lacks the substitution CheckStatusFunctionArn"),
        ("workflow.yaml", "}import.asl.json", "}export.asl.json", "export.asl.json, which is not among the templates"),
        (
            "workflow.yaml",
            "        Arn: !GetAtt SweepBatchesFunction.Arn",
            "        Arn: !GetAtt SweepDeadLetterQueue.Arn",
            "none of the functions",
        ),
        ("storage.yaml", "Value: !Ref DicomBucket }", "Value: !Ref Bucket }", "there is no resource Bucket"),
    ],
)
def test_what_cannot_be_made_is_refused_at_the_start(tmp_path: Path, file: str, old: str, new: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem), embedded(changed(tmp_path, file, old, new)):
        pass


def test_nothing_but_what_is_known_differs_from_the_templates() -> None:
    given = LEAST | {"ArtifactPrefix": "local/", "DatastoreID": "0" * 32}
    as_it_is = resolve(templates_directory() / "main.yaml", given, account=ACCOUNT, names=NAMES)
    here = local_stack(templates_directory(), "0" * 32, Pace(), {"AWS_ENDPOINT_URL": "http://127.0.0.1"})
    assert here.outputs == as_it_is.outputs
    differs = {
        (path, name)
        for path, resource in as_it_is.resources.items()
        if resource.type in MADE
        for name in resource.properties.keys() | here.resources[path].properties.keys()
        if resource.properties.get(name) != here.resources[path].properties.get(name)
    }
    functions = {path for path, resource in here.resources.items() if resource.type == "AWS::Lambda::Function"}
    assert differs == {
        *((path, "Environment") for path in functions),
        ("Storage/ImportQueue", "VisibilityTimeout"),
        ("Workflow/SweepSchedule", "ScheduleExpression"),
    }
    for path in functions:
        own, variables = ({**one.resources[path].properties["Environment"]["Variables"]} for one in (as_it_is, here))
        added = {"AWS_ENDPOINT_URL", "POLL_MIN_SECONDS", "POLL_MAX_SECONDS", "STUCK_AFTER_SECONDS"}
        assert variables.keys() - own.keys() == added
        assert own == {name: value for name, value in variables.items() if name not in added}


def test_only_what_there_is_can_be_named() -> None:
    with pytest.raises(TemplateError, match="no resource Storage/Bucket to name"):
        resolve(templates_directory() / "main.yaml", LEAST, names={"Storage/Bucket": "bucket"})
