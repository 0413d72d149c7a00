"""What a call of AWS needs, and whether a role allows it: IAM's evaluation, as far as these policies use it."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from urllib.parse import unquote

from fastscp.local.templates import Resolved
from tests.templates.deployments import ACCOUNT, REGION
from tests.templates.guard import as_list, policies_of
from tests.templates.running import Called

Needed = tuple[str, str]


def needs(call: Called) -> Iterator[Needed]:
    """Actions and the resources that they are done to."""
    arguments = call.arguments
    match call.service:
        case "s3":
            bucket = f"arn:aws:s3:::{arguments['Bucket']}"
            thing = f"{bucket}/{arguments.get('Key', '')}"
            if call.operation == "ListObjectsV2":
                yield "s3:ListBucket", bucket
            elif call.operation in {"GetObject", "HeadObject"}:
                yield "s3:GetObjectVersion" if "VersionId" in arguments else "s3:GetObject", thing
            elif call.operation in {"CopyObject", "UploadPartCopy"}:
                source, _, version = arguments["CopySource"].partition("?versionId=")
                yield "s3:GetObjectVersion" if version else "s3:GetObject", f"arn:aws:s3:::{unquote(source)}"
                yield "s3:PutObject", thing
            else:
                yield f"s3:{call.operation}", thing
        case "dynamodb":
            table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{arguments['TableName']}"
            yield f"dynamodb:{call.operation}", f"{table}/index/{arguments['IndexName']}" if "IndexName" in arguments else table
        case "stepfunctions":
            yield f"states:{call.operation}", arguments.get("stateMachineArn") or arguments["executionArn"]
        case "medical-imaging":
            yield f"medical-imaging:{call.operation}", f"arn:aws:medical-imaging:{REGION}:{ACCOUNT}:datastore/{arguments['datastoreId']}"
            if "dataAccessRoleArn" in arguments:
                yield "iam:PassRole", arguments["dataAccessRoleArn"]
        case _:
            raise ValueError(f"{call.service} is not known")


def allows(resolved: Resolved, role: str, needed: Needed) -> bool:
    """Whether a role allows an action on a resource. Conditions are taken to hold: guard.py judges them."""
    action, wanted = needed
    allowing = [
        resource
        for statement in policies_of(resolved.resources[role], resolved)
        if statement["Effect"] == "Allow" and action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    ]
    return any(fnmatchcase(wanted, one) for one in allowing)
