"""The resources of the resolved templates, made in the embedded AWS.

Enters: resolved templates, an endpoint. Leaves: buckets, queues, tables, functions and state machines, wired together; clients of them.
Never: a resource that the templates lack.
"""

import functools
import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from fastscp.errors import ConfigError
from fastscp.local.stack import REGION
from fastscp.local.templates import Resolved, Resource

# Nobody checks them; they look like keys because some clients insist.
ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOBODYS = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
"""What keeps an AWS SDK from looking for a person's profiles and a machine's role."""
_QUEUE_TIMES = ("VisibilityTimeout", "MessageRetentionPeriod")
_TABLE_PROPERTIES = ("BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes")
_SUBSTITUTED = re.compile(r"\$\{(\w+)\}")


@functools.cache
def session() -> Any:
    """A boto3 session. It reads the models of the services once, which takes longer than anything that is done with them."""
    return boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)


def client(service: str, url: str, **config: Any) -> Any:
    """A boto3 client of the embedded AWS. Not to be called by two threads at one time."""
    # HealthImaging's host prefix would make another host of the address.
    options = {"inject_host_prefix": False, "s3": {"addressing_style": "path"}, "max_pool_connections": 64, **config}
    return session().client(service, endpoint_url=url, config=Config(**options))


def aws_environment(url: str) -> dict[str, str]:
    """What makes any AWS SDK talk to the embedded AWS, and to nothing else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        **NOBODYS,
    }


def create_resources(resolved: Resolved, url: str, templates: Path) -> None:
    """Make what the embedded AWS has of a stack. Event source mappings and schedules are `event_source`'s.

    Args:
        templates: directory that the definitions of the state machines are in.

    Raises:
        ConfigError: a definition is not there, or names what has no substitution.
    """
    create_queues(resolved, client("sqs", url))
    create_buckets(resolved, client("s3", url))
    create_tables(resolved, client("dynamodb", url))
    _create_roles(resolved, client("iam", url))
    _create_functions(resolved, client("lambda", url))
    _create_state_machines(resolved, client("stepfunctions", url), templates / "statemachine")


def create_queues(resolved: Resolved, sqs: Any) -> None:
    """The queues, with their times and dead-letter queues."""
    # A dead-letter queue has to be there before the queue that names it.
    for queue in sorted(resolved.of_type("AWS::SQS::Queue"), key=lambda one: "RedrivePolicy" in one.properties):
        attributes: dict[str, str] = {name: str(queue.properties[name]) for name in _QUEUE_TIMES if name in queue.properties}
        if "RedrivePolicy" in queue.properties:
            attributes["RedrivePolicy"] = json.dumps(queue.properties["RedrivePolicy"])
        sqs.create_queue(QueueName=queue.ref.rpartition("/")[2], Attributes=attributes)


def create_buckets(resolved: Resolved, s3: Any) -> None:
    """The buckets, and which events they send to which queues. Those have to be there."""
    for bucket in resolved.of_type("AWS::S3::Bucket"):
        s3.create_bucket(Bucket=bucket.ref)
        events = [
            {"QueueArn": one["Queue"], "Events": [one["Event"]], "Filter": {"Key": {"FilterRules": one["Filter"]["S3Key"]["Rules"]}}}
            for one in bucket.properties.get("NotificationConfiguration", {}).get("QueueConfigurations", ())
        ]
        if events:
            s3.put_bucket_notification_configuration(Bucket=bucket.ref, NotificationConfiguration={"QueueConfigurations": events})


def create_tables(resolved: Resolved, dynamodb: Any) -> None:
    """The tables, with their keys and indexes."""
    for table in resolved.of_type("AWS::DynamoDB::Table"):
        dynamodb.create_table(TableName=table.ref, **{name: table.properties[name] for name in _TABLE_PROPERTIES})


def _create_roles(resolved: Resolved, iam: Any) -> None:
    """They are there, because functions name them. Nothing asks what they allow."""
    for role in resolved.of_type("AWS::IAM::Role"):
        iam.create_role(RoleName=role.ref, AssumeRolePolicyDocument=json.dumps(role.properties["AssumeRolePolicyDocument"]))


def _create_functions(resolved: Resolved, lambda_: Any) -> None:
    """By name; their code is run from where it is (see `functions`)."""
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    for function in resolved.of_type("AWS::Lambda::Function"):
        lambda_.create_function(
            FunctionName=function.ref,
            Code={"ZipFile": archive.getvalue()},
            Timeout=int(function.properties["Timeout"]),
            MemorySize=int(function.properties["MemorySize"]),
            **{name: function.properties[name] for name in ("Runtime", "Role", "Handler")},
        )


def _create_state_machines(resolved: Resolved, states: Any, definitions: Path) -> None:
    for machine in resolved.of_type("AWS::StepFunctions::StateMachine"):
        file = definitions / machine.properties["DefinitionS3Location"]["Key"].rpartition("/")[2]
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ConfigError("fastscp local", f"{machine.ref} is defined by {file.name}, which is not among the templates") from error
        definition = _substituted(text, machine)
        states.create_state_machine(name=machine.ref.rpartition(":")[2], definition=definition, roleArn=machine.properties["RoleArn"])


def _substituted(text: str, machine: Resource) -> str:
    given = machine.properties["DefinitionSubstitutions"]
    if unknown := set(_SUBSTITUTED.findall(text)) - given.keys():
        raise ConfigError("fastscp local", f"{machine.ref} lacks the substitution {', '.join(sorted(unknown))}")
    return _SUBSTITUTED.sub(lambda match: str(given[match[1]]), text)
