"""What `fastscp local` makes is what the templates make: tables, queue, events, functions and their environment, state machine."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fastscp.local import wiring
from fastscp.local.functions import TIMEOUTS_S
from fastscp.local.server import Server
from fastscp.local.templates import Resolved
from tests.local.support import reset
from tests.templates.deployments import deployed, of_type


@pytest.fixture(scope="module")
def templates() -> Resolved:
    return deployed("defaults")


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    wiring.create_buckets(server.url)
    wiring.create_queues(server.url, 60, 5)
    wiring.create_tables(server.url)
    wiring.create_functions(server.url)
    wiring.create_state_machine(server.url)
    yield server.url
    reset(server.url)


def one(templates: Resolved, kind: str, ending: str) -> dict[str, Any]:
    """Properties of the one resource of a type whose path ends so."""
    (properties,) = [resource.properties for path, resource in of_type(templates, kind) if path.endswith(ending)]
    return properties


def keys_of(table: dict[str, Any]) -> tuple[Any, ...]:
    def schema(described: dict[str, Any]) -> list[tuple[str, str]]:
        return [(key["AttributeName"], key["KeyType"]) for key in described["KeySchema"]]

    indexes = {index["IndexName"]: (schema(index), index["Projection"]) for index in table["GlobalSecondaryIndexes"]}
    return schema(table), indexes, {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}


@pytest.mark.parametrize(("name", "ending"), [(wiring.BATCH_TABLE, "BatchTable"), (wiring.JOB_TABLE, "JobTable")])
def test_a_table_has_the_keys_and_indexes_of_the_template(url: str, templates: Resolved, name: str, ending: str) -> None:
    made = wiring.client("dynamodb", url).describe_table(TableName=name)["Table"]
    assert keys_of(made) == keys_of(one(templates, "AWS::DynamoDB::Table", ending))


def test_the_bucket_sends_the_events_of_the_template(url: str, templates: Resolved) -> None:
    made = wiring.client("s3", url).get_bucket_notification_configuration(Bucket=wiring.DICOM_BUCKET)["QueueConfigurations"]
    described = one(templates, "AWS::S3::Bucket", "DicomBucket")["NotificationConfiguration"]["QueueConfigurations"]

    def filters(rules: list[dict[str, str]]) -> frozenset[tuple[str, str]]:
        return frozenset((rule.get("Name", "").lower(), rule["Value"]) for rule in rules)

    mine = {(tuple(each["Events"]), filters(each["Filter"]["Key"]["FilterRules"])) for each in made}
    theirs = {((each["Event"],), filters(each["Filter"]["S3Key"]["Rules"])) for each in described}
    # The templates put the store under a prefix of the bucket, the embedded AWS at its top.
    assert mine == {(events, frozenset((name, _below(value)) for name, value in rules)) for events, rules in theirs}


def _below(value: str) -> str:
    return next((value[value.index(start) :] for start in ("batches/", "inbox/") if start in value), value)


def test_the_queue_gives_up_when_that_of_the_template_does(url: str, templates: Resolved) -> None:
    sqs = wiring.client("sqs", url)
    made = sqs.get_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName=wiring.QUEUE)["QueueUrl"], AttributeNames=["RedrivePolicy"])
    policies = [resource.properties.get("RedrivePolicy") for _, resource in of_type(templates, "AWS::SQS::Queue")]
    (described,) = [policy for policy in policies if policy]
    assert int(json.loads(made["Attributes"]["RedrivePolicy"])["maxReceiveCount"]) == int(described["maxReceiveCount"])


def test_the_functions_are_those_of_the_template(url: str, templates: Resolved) -> None:
    listed = wiring.client("lambda", url).list_functions()["Functions"]
    made = {function["Handler"]: function["Timeout"] for function in listed}
    described = {
        resource.properties["Handler"]: int(resource.properties["Timeout"])
        for _, resource in of_type(templates, "AWS::Lambda::Function")
        if resource.properties["Handler"].split(".")[0] in TIMEOUTS_S
    }
    assert len(described) == 4
    assert made == described


def test_the_functions_find_in_their_environment_what_the_template_gives_them(templates: Resolved) -> None:
    mine = wiring.function_environment("http://localhost", "0" * 32, wiring.Pace()).keys() - wiring.aws_environment("").keys()
    for path, resource in of_type(templates, "AWS::Lambda::Function"):
        if resource.properties["Handler"].split(".")[0] in TIMEOUTS_S:
            theirs = resource.properties["Environment"]["Variables"].keys()
            # Faster polls are what differs.
            assert theirs <= mine, path
            assert mine - theirs <= {"POLL_MIN_SECONDS", "POLL_MAX_SECONDS", "STUCK_AFTER_SECONDS"}, path


def test_the_state_machine_is_the_template_s_with_all_its_functions_named(url: str, templates: Resolved) -> None:
    made = wiring.client("stepfunctions", url).describe_state_machine(stateMachineArn=wiring.STATE_MACHINE_ARN)["definition"]
    assert "${" not in made
    (resource,) = [resource for _, resource in of_type(templates, "AWS::StepFunctions::StateMachine")]
    for name in resource.properties["DefinitionSubstitutions"]:
        words = name.removesuffix("FunctionArn")
        function = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in words).lstrip("_")
        assert f":function:{function}" in made
