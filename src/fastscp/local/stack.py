"""The stack of the templates as the embedded AWS has it, and all that is not as in AWS: parameters, names, overrides.

Enters: the templates, what a person or a test decides. Leaves: resources to make, environments of functions and receiver.
Never: a resource, or a property that is made, from anywhere else.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from fastscp.errors import ConfigError
from fastscp.local.functions import Function
from fastscp.local.objects import ACCOUNT_ID
from fastscp.local.physical import attribute_of
from fastscp.local.templates import Resolved, Resource, TemplateError, resolve

REGION = "us-east-1"
STACK = "fastscp"
# In AWS, CloudFormation makes these up. Here a person types them, `fastscp jobs` has the tables as its defaults, and what --data keeps
# has to find its place again.
NAMES = MappingProxyType(
    {
        "Storage/DicomBucket": "fastscp-dicom",
        "Storage/ResultsBucket": "fastscp-results",
        "Storage/AccessLogBucket": "fastscp-access-logs",
        "Storage/DicomImportBatchTable": "DicomImportBatchTable",
        "Storage/DicomImportJobTable": "DicomImportJobTable",
        "Storage/ImportQueue": "fastscp-import",
        "Storage/ImportDeadLetterQueue": "fastscp-import-dead",
        "Workflow/SweepDeadLetterQueue": "fastscp-sweep-dead",
        "Workflow/TriggerImportFunction": "trigger_import",
        "Workflow/StartImportJobFunction": "start_import_job",
        "Workflow/CheckStatusFunction": "check_status",
        "Workflow/SweepBatchesFunction": "sweep_batches",
    }
)
# What main.yaml has no default for. Of image, artefacts and load balancer nothing is made here.
_NOT_MADE = {
    "ImageURI": f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/fastscp:local",
    "RepositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/fastscp",
    "ArtifactBucket": "artefacts",
    "ArtifactPrefix": "local/",
    "PeerCIDR1": "127.0.0.0/8",
}
# All other variables of the container are options that a person has here too.
_RECEIVERS = ("FASTSCP_STORE", "FASTSCP_BUCKET_OWNER", "FASTSCP_AWS_REGION")


class Pace(NamedTuple):
    """What is quicker here than in AWS, so that a person sees it happen; starts per second are the service's. See docs/workflow.md.

    Attributes:
        poll_min_s, poll_max_s, stuck_after_s: whole seconds.
        visibility_s: of the queues that have a time of their own, whole seconds.
        sweep_interval_s: between two runs of the sweeper.
    """

    starts_per_second: float = 1.0
    poll_min_s: int = 1
    poll_max_s: int = 5
    stuck_after_s: int = 60
    visibility_s: int = 60
    sweep_interval_s: float = 30.0


def local_stack(directory: Path, datastore_id: str, pace: Pace, aws_environment: Mapping[str, str]) -> Resolved:
    """What the templates of a directory make, with all that has to be another here.

    Args:
        datastore_id: the emulator's, which is there already.
        aws_environment: what leads an AWS SDK to this AWS.

    Raises:
        ConfigError: the templates are refused.
    """
    parameters = {**_NOT_MADE, "DatastoreID": datastore_id, "ImportStartsPerSecond": f"{pace.starts_per_second:g}"}
    try:
        resolved = resolve(directory / "main.yaml", parameters, stack=STACK, region=REGION, account=ACCOUNT_ID, names=NAMES)
    except TemplateError as error:
        raise ConfigError("fastscp local", str(error)) from error
    added = {
        # In AWS, a function has a role and a Region's endpoints.
        **aws_environment,
        # The emulator needs seconds for what takes the service minutes.
        "POLL_MIN_SECONDS": str(pace.poll_min_s),
        "POLL_MAX_SECONDS": str(pace.poll_max_s),
        "STUCK_AFTER_SECONDS": str(pace.stuck_after_s),
    }
    overrides: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "AWS::Lambda::Function": lambda own: {"Environment": {"Variables": _variables(own) | added}},
        # Six times the longest run of the function are twelve minutes.
        "AWS::SQS::Queue": lambda own: {"VisibilityTimeout": pace.visibility_s} if "VisibilityTimeout" in own else {},
        "AWS::Scheduler::Schedule": lambda _: {"ScheduleExpression": f"rate({pace.sweep_interval_s:g} seconds)"},
    }

    def here(resource: Resource) -> Resource:
        override = overrides.get(resource.type)
        return resource._replace(properties=resource.properties | override(resource.properties)) if override else resource

    return resolved._replace(resources={path: here(resource) for path, resource in resolved.resources.items()})


def functions_of(resolved: Resolved) -> dict[str, Function]:
    """The functions by name."""
    pseudo = {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT_ID}
    return {
        function.ref: Function(
            arn=attribute_of(function.type, function.ref, "Arn", pseudo),
            handler=function.properties["Handler"],
            timeout_s=float(function.properties["Timeout"]),
            variables=_variables(function.properties),
        )
        for function in resolved.of_type("AWS::Lambda::Function")
    }


def receiver_environment(resolved: Resolved) -> dict[str, str]:
    """What the task definition tells the receiver of the AWS that it is in."""
    (task,) = resolved.of_type("AWS::ECS::TaskDefinition")
    (container,) = task.properties["ContainerDefinitions"]
    return {one["Name"]: str(one["Value"]) for one in container["Environment"] if one["Name"] in _RECEIVERS}


def _variables(properties: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in properties["Environment"]["Variables"].items()}
