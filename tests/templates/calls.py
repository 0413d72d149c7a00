"""What the code of a function calls in AWS, read from its source.

Enters: lambdas/. Leaves: pairs of resource ("dicom", "batch", "states"...) and IAM action. Never: a call of AWS that is passed over.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

LAMBDAS = Path(__file__).parents[2] / "lambdas"
# Attributes of a Workflow, by what stands behind them, and the classes whose methods are called there.
BUCKETS, TABLES, CLIENTS = (
    {"dicom", "results"},
    {"batches": "batch", "jobs": "job"},
    {"states": "states", "imaging": "imaging", "starts": "imaging"},
)
ACTIONS = {
    "get_object": {"s3:GetObject"},
    "head_object": {"s3:GetObject"},
    "put_object": {"s3:PutObject"},
    "delete_object": {"s3:DeleteObject"},
    "list_objects_v2": {"s3:ListBucket"},
    "copy_object": {"s3:GetObject", "s3:PutObject"},
    # By parts where it is large.
    "copy": {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"},
    "get_item": {"dynamodb:GetItem"},
    "put_item": {"dynamodb:PutItem"},
    "update_item": {"dynamodb:UpdateItem"},
    "delete_item": {"dynamodb:DeleteItem"},
    "query": {"dynamodb:Query"},
    "start_execution": {"states:StartExecution"},
    "describe_execution": {"states:DescribeExecution"},
    # https://docs.aws.amazon.com/healthimaging/latest/devguide/getting-started-setting-up.html: who starts a job hands over a role.
    "start_dicom_import_job": {"medical-imaging:StartDICOMImportJob", "iam:PassRole"},
    "get_dicom_import_job": {"medical-imaging:GetDICOMImportJob"},
    "list_dicom_import_jobs": {"medical-imaging:ListDICOMImportJobs"},
}
NO_CALLS = {"exceptions", "meta", "close"}
# Of an object in a bucket that the role may not list, S3 says "denied" and not "absent"; these ask for what may be absent.
ASKS_FOR_THE_ABSENT = {"get", "lines", "head", "exists", "copy"}

Call = tuple[str, str]


class Definition(NamedTuple):
    module: str
    node: ast.FunctionDef | ast.ClassDef


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(LAMBDAS.rglob("*.py")):
        name = ".".join(path.relative_to(LAMBDAS).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def definitions(module: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    return {node.name: node for node in modules()[module].body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def imports(module: str) -> dict[str, tuple[str, str]]:
    """What a module's names are: module and name there, "" where the name is a module."""
    found = {}
    for node in modules()[module].body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in modules():
                    found[alias.asname or alias.name] = (whole, "")
                elif node.module in modules():
                    found[alias.asname or alias.name] = (node.module, alias.name)
    return found


def client_actions(node: ast.AST) -> Iterator[str]:
    """Actions of the calls of a client of the AWS SDK in a piece of code."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute):
            owner = ast.unparse(one.func.value)
            if owner.endswith("client") or owner.rpartition(".")[2] in CLIENTS:
                name = one.func.attr
                if name == "get_paginator":
                    name = ast.literal_eval(one.args[0])
                if name not in NO_CALLS:
                    yield from ACTIONS[name]


@cache
def methods(module: str, name: str) -> dict[str, frozenset[str]]:
    """Actions by method of Bucket or Table."""
    body = definitions(module)[name].body
    return {node.name: frozenset(client_actions(node)) for node in body if isinstance(node, ast.FunctionDef)}


def aliases(function: ast.AST) -> dict[str, str]:
    """Local names of a function for attributes of a Workflow."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = (
                zip(target.elts, value.elts, strict=True)
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                else [(target, value)]
            )
            for to, what in pairs:
                if isinstance(to, ast.Name) and isinstance(what, ast.Attribute):
                    found[to.id] = what.attr
    return found


def calls_in(module: str, function: ast.AST) -> Iterator[Call]:
    named = aliases(function)
    used: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            used |= {id(one) for one in ast.walk(node.value) if isinstance(one, ast.Attribute)}
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute | ast.Name)):
            continue
        owner = node.value.attr if isinstance(node.value, ast.Attribute) else named.get(node.value.id, "")
        used.add(id(node.value))
        if owner in BUCKETS and node.attr in methods("importflow.objects", "Bucket"):
            for action in methods("importflow.objects", "Bucket")[node.attr]:
                yield owner, action
            if node.attr in ASKS_FOR_THE_ABSENT:
                yield owner, "s3:ListBucket"
            if node.attr == "head":
                yield owner, "s3:GetObjectVersion"
        elif owner in TABLES and node.attr in methods("importflow.table", "Table"):
            for action in methods("importflow.table", "Table")[node.attr]:
                yield TABLES[owner], action
        elif owner in CLIENTS and node.attr in ACTIONS:
            for action in ACTIONS[node.attr]:
                yield CLIENTS[owner], action
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node).startswith("workflow.")
            and node.attr in {*BUCKETS, *TABLES}
            and id(node) not in used
        ):
            raise AssertionError(f"{module}, line {node.lineno}: what is done with workflow.{node.attr} is not seen")


def calls_of(function: str) -> set[Call]:
    """What a function can call, by all that its handler can reach."""
    waiting, seen, found = [(f"{function}.handler", "handler")], set(), set()
    while waiting:
        module, name = waiting.pop()
        if (module, name) in seen or name not in definitions(module):
            continue
        seen.add((module, name))
        node = definitions(module)[name]
        found |= set(calls_in(module, node))
        known = imports(module)
        for one in ast.walk(node):
            if isinstance(one, ast.Name):
                if one.id in known and known[one.id][1]:
                    waiting.append(known[one.id])
                elif one.id in definitions(module):
                    waiting.append((module, one.id))
            elif isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and known.get(one.value.id, ("", "x"))[1] == "":
                waiting.append((known[one.value.id][0], one.attr))
    return found
