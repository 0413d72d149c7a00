"""The resources that the templates make in AWS, made in the embedded one.

Enters: an endpoint. Leaves: buckets, queues, tables, functions and the state machine, wired together.
Never: a resource that the templates lack.
"""

import functools
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import boto3
from botocore.config import Config

from fastscp.local.deployed import state_machine_file
from fastscp.local.functions import TIMEOUTS_S, function_arn
from fastscp.local.objects import ACCOUNT_ID

REGION = "us-east-1"
# Nobody checks them; they look like keys because some clients insist.
ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
DICOM_BUCKET, RESULTS_BUCKET = "fastscp-dicom", "fastscp-results"
BATCH_TABLE, JOB_TABLE = "DicomImportBatchTable", "DicomImportJobTable"
QUEUE, DEAD_LETTER_QUEUE = "fastscp-import", "fastscp-import-dead"
STATE_MACHINE = "fastscp-import"
NOBODYS = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
"""What keeps an AWS SDK from looking for a person's profiles and a machine's role."""
STATE_MACHINE_ARN = f"arn:aws:states:{REGION}:{ACCOUNT_ID}:stateMachine:{STATE_MACHINE}"
DATA_ACCESS_ROLE_ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/fastscp-import"
_ROLE = "fastscp-functions"
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


class Pace(NamedTuple):
    """What the functions are told of rates and times: see docs/workflow.md. All times are whole seconds."""

    starts_per_second: float = 1.0
    concurrent_jobs: int = 100
    poll_min_s: int = 1
    poll_max_s: int = 5
    stuck_after_s: int = 60


class Queues(NamedTuple):
    url: str
    arn: str
    dead_letter_url: str


def function_environment(url: str, datastore_id: str, pace: Pace) -> dict[str, str]:
    """The environment of the functions, as docs/workflow.md has it."""
    return {
        **aws_environment(url),
        "DICOM_BUCKET": DICOM_BUCKET,
        "DICOM_PREFIX": "",
        "RESULTS_BUCKET": RESULTS_BUCKET,
        "RESULTS_PREFIX": "",
        "BATCH_TABLE": BATCH_TABLE,
        "JOB_TABLE": JOB_TABLE,
        "DATASTORE_ID": datastore_id,
        "DATA_ACCESS_ROLE_ARN": DATA_ACCESS_ROLE_ARN,
        "STATE_MACHINE_ARN": STATE_MACHINE_ARN,
        "STARTS_PER_SECOND": f"{pace.starts_per_second:g}",
        "CONCURRENT_JOBS": str(pace.concurrent_jobs),
        "POLL_MIN_SECONDS": str(pace.poll_min_s),
        "POLL_MAX_SECONDS": str(pace.poll_max_s),
        "STUCK_AFTER_SECONDS": str(pace.stuck_after_s),
        "POWERTOOLS_SERVICE_NAME": "fastscp-import",
        "POWERTOOLS_METRICS_NAMESPACE": "fastscp",
        "LOG_LEVEL": "INFO",
    }


def create_buckets(url: str) -> None:
    s3 = client("s3", url)
    for bucket in (DICOM_BUCKET, RESULTS_BUCKET):
        s3.create_bucket(Bucket=bucket)


def create_queues(url: str, visibility_s: int, receive_count: int) -> Queues:
    """The import queue with its dead-letter queue, and the bucket's events going there."""
    sqs = client("sqs", url)
    dead_letter_url = sqs.create_queue(QueueName=DEAD_LETTER_QUEUE)["QueueUrl"]
    redrive = {"deadLetterTargetArn": _queue_arn(DEAD_LETTER_QUEUE), "maxReceiveCount": receive_count}
    attributes = {"VisibilityTimeout": str(visibility_s), "RedrivePolicy": json.dumps(redrive)}
    queue_url = sqs.create_queue(QueueName=QUEUE, Attributes=attributes)["QueueUrl"]
    events = [
        {
            "QueueArn": _queue_arn(QUEUE),
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}, {"Name": "suffix", "Value": suffix}]}},
        }
        for prefix, suffix in (("batches/", ".json"), ("inbox/", ".dcm"))
    ]
    s3 = client("s3", url)
    s3.put_bucket_notification_configuration(Bucket=DICOM_BUCKET, NotificationConfiguration={"QueueConfigurations": events})
    return Queues(queue_url, _queue_arn(QUEUE), dead_letter_url)


def _queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{name}"


def create_tables(url: str) -> None:
    dynamodb = client("dynamodb", url)
    _create_table(dynamodb, BATCH_TABLE, "batchId", {"byState": ("state", "updatedAt"), "byStudy": ("studyInstanceUID", "closedAt")})
    _create_table(dynamodb, JOB_TABLE, "jobId", {"byBatch": ("batchId", "submittedAt")})


def _create_table(dynamodb: Any, name: str, key: str, indexes: Mapping[str, tuple[str, str]]) -> None:
    attributes = {key, *(attribute for pair in indexes.values() for attribute in pair)}
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": attribute, "AttributeType": "S"} for attribute in sorted(attributes)],
        GlobalSecondaryIndexes=[
            {
                "IndexName": index,
                "KeySchema": [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": order, "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "ALL"},
            }
            for index, (partition, order) in indexes.items()
        ],
    )


def create_functions(url: str) -> None:
    """The functions by name; their code is run from where it is (see `functions`)."""
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}]}
    role = client("iam", url).create_role(RoleName=_ROLE, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    functions = client("lambda", url)
    for function, timeout_s in TIMEOUTS_S.items():
        functions.create_function(
            FunctionName=function,
            Runtime="python3.12",
            Role=role,
            Handler=f"{function}.handler.handler",
            Timeout=timeout_s,
            Code={"ZipFile": archive.getvalue()},
        )


def create_state_machine(url: str) -> None:
    """The state machine as it is deployed, with the names of its functions filled in."""
    names = {
        f"{''.join(word.title() for word in function.split('_'))}FunctionArn": function_arn(function, REGION) for function in TIMEOUTS_S
    }
    definition = _SUBSTITUTED.sub(lambda match: names[match[1]], state_machine_file().read_text(encoding="utf-8"))
    client("stepfunctions", url).create_state_machine(name=STATE_MACHINE, definition=definition, roleArn=DATA_ACCESS_ROLE_ARN)
