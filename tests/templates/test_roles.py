"""Each function's role holds what its code calls: no less, and no more."""

import re
from pathlib import Path

import pytest

from fastscp.local.templates import Resolved
from tests.templates.calls import calls_of
from tests.templates.deployments import ACCOUNT, CFN, REGION, changed, deployed
from tests.templates.guard import as_list, policies_of
from tests.templates.guard_wiring import FUNCTIONS, snake

# What Lambda does in the role's name around the code: see docs/security.md.
PLATFORM = {"queue"}


def held(resolved: Resolved, name: str) -> set[tuple[str, str]]:
    """Pairs of resource and action that a function's role allows, apart from what Lambda itself and KMS need."""
    storage = {
        f"Storage/{which}": resolved.resources[f"Storage/{which}"].ref
        for which in ("DicomBucket", "ResultsBucket", "DicomImportBatchTable", "DicomImportJobTable")
    }
    kinds = {
        f"arn:aws:s3:::{storage['Storage/DicomBucket']}": "dicom",
        f"arn:aws:s3:::{storage['Storage/ResultsBucket']}": "results",
        f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{storage['Storage/DicomImportBatchTable']}": "batch",
        f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{storage['Storage/DicomImportJobTable']}": "job",
        f"arn:aws:states:{REGION}:{ACCOUNT}:": "states",
        f"arn:aws:medical-imaging:{REGION}:{ACCOUNT}:datastore/": "imaging",
        f"arn:aws:iam::{ACCOUNT}:role/{resolved.resources['Workflow/DataAccessRole'].ref}": "imaging",
        f"arn:aws:sqs:{REGION}:{ACCOUNT}:": "queue",
    }
    found = set()
    for policy in resolved.resources[f"Workflow/{name}Role"].properties["Policies"]:
        for statement in (one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"):
            for resource in as_list(statement["Resource"]):
                kind = (
                    next(kind for start, kind in kinds.items() if resource.startswith(start))
                    if statement["Sid"] != "CustomerKey"
                    else "key"
                )
                found |= {(kind, action) for action in as_list(statement["Action"])}
    return {pair for pair in found if pair[0] not in {*PLATFORM, "key"}}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_role_holds_what_the_code_calls(name: str) -> None:
    assert held(deployed("defaults"), name) == calls_of(snake(name))


def test_what_lambda_does_for_the_queue_is_held_by_its_function_alone() -> None:
    resolved = deployed("defaults")
    holders = {}
    for name in FUNCTIONS:
        statements = policies_of(resolved.resources[f"Workflow/{name}Role"], resolved)
        holders[name] = {a for s in statements for a in as_list(s["Action"]) if a.startswith("sqs:")}
    assert holders.pop("TriggerImport") == {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
    assert not any(holders.values())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Action: [s3:PutObject, s3:AbortMultipartUpload]", "Action: s3:PutObject"),
        ("Action: s3:DeleteObject", "Action: [s3:DeleteObject, s3:GetObject]"),
        (
            "Action: [medical-imaging:StartDICOMImportJob, medical-imaging:ListDICOMImportJobs]",
            "Action: medical-imaging:StartDICOMImportJob",
        ),
        ("Resource: !Ref JobTableArn", "Resource: !Ref BatchTableArn"),
        ("Sid: StartJob\n                Effect: Allow", "Sid: StartJob\n                Effect: Deny"),
        ("Action: [dynamodb:GetItem, dynamodb:UpdateItem]", "Action: [dynamodb:GetItem, dynamodb:UpdateItem, dynamodb:PutItem]"),
    ],
)
def test_an_action_too_many_or_too_few_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    resolved = deployed("defaults", changed(tmp_path, "workflow.yaml", old, new))
    assert any(held(resolved, name) != calls_of(snake(name)) for name in FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_table_of_the_workflow_says_what_roles_hold(name: str) -> None:
    """docs/workflow.md: an action without its service is of the service named before it."""
    text = (CFN.parent / "docs" / "workflow.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{snake(name)}` \| (\d+) s \| [^|]* \| (.*) \|$", text, re.MULTILINE)
    assert row
    said, service = set(), ""
    for prefix, action in re.findall(r"`(?:([a-z0-9-]+):)?([A-Z]\w+)`", row[2]):
        service = prefix or service
        said.add(f"{service}:{action}")
    resolved = deployed("defaults")
    assert said == {action for _, action in held(resolved, name)}
    assert resolved.resources[f"Workflow/{name}Function"].properties["Timeout"] == row[1]
