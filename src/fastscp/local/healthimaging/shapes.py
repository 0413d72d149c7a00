"""Requests and answers in the service's own model, which botocore brings.

Enters: HTTP. Leaves: an operation with its parameters, checked as the model documents them; or the HTTP of an answer.
Never: a rule of the model written down a second time.
"""

import functools
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import botocore.session
from botocore.model import OperationModel
from werkzeug.wrappers import Request, Response

from fastscp.local.healthimaging.errors import ServiceError

_PLACE = re.compile(r"\\{(\w+)\\}")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "structure": dict,
    "map": dict,
    "list": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "timestamp": (int, float),
}


class Model:
    """The operations of medical-imaging, found by method and path."""

    def __init__(self) -> None:
        service = botocore.session.get_session().get_service_model("medical-imaging")
        self._operations: list[tuple[str, re.Pattern[str], OperationModel]] = []
        for name in service.operation_names:
            operation = service.operation_model(name)
            path = _PLACE.sub(r"(?P<\1>[^/]+)", re.escape(operation.http["requestUri"]))
            self._operations.append((operation.http["method"], re.compile(path), operation))

    def find(self, method: str, path: str) -> tuple[OperationModel, dict[str, str]] | None:
        """The operation and what its path names, None where there is no such operation."""
        for wanted, pattern, operation in self._operations:
            match = pattern.fullmatch(path)
            if match is not None and method == wanted:
                return operation, {name: unquote(value) for name, value in match.groupdict().items()}
        return None


def parameters(operation: OperationModel, in_path: Mapping[str, str], request: Request) -> dict[str, Any]:
    """The parameters of a request. Raises ServiceError (ValidationException)."""
    shape: Any = operation.input_shape
    try:
        body = json.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise ServiceError("ValidationException", "the body is not JSON") from error
    given: dict[str, Any] = {}
    payload = shape.serialization.get("payload")
    if payload:
        given[payload] = body
    for name, member in shape.members.items():
        wire_name = member.serialization.get("name", name)
        match member.serialization.get("location"):
            case "uri":
                given[name] = in_path[wire_name]
            case "querystring":
                if wire_name in request.args:
                    text = request.args[wire_name]
                    given[name] = int(text) if member.type_name == "integer" and text.lstrip("-").isdigit() else text
            case None:
                if not payload and isinstance(body, dict) and body.get(wire_name) is not None:
                    given[name] = body[wire_name]
    problems = list(_problems(shape, given, ""))
    if problems:
        raise ServiceError("ValidationException", f"{len(problems)} validation errors detected: {'; '.join(problems)}")
    return given


def _problems(shape: Any, value: Any, path: str) -> list[str]:
    """What of the model a value breaks, as "path: what"."""
    fits = isinstance(value, _KINDS[shape.type_name]) and not (shape.type_name == "integer" and isinstance(value, bool))
    if not fits:
        return [f"{path or 'body'}: is no {shape.type_name}"]
    if shape.type_name == "structure":
        found = [f"{path}{name}: is required" for name in shape.required_members if name not in value]
        if shape.metadata.get("union") and len(value) != 1:
            found.append(f"{path or 'body'}: must have exactly one member")
        for name, member in shape.members.items():
            if name in value:
                found += _problems(member, value[name], f"{path}{name}")
        return found
    if shape.type_name == "list":
        items = [problem for number, one in enumerate(value) for problem in _problems(shape.member, one, f"{path}[{number}]")]
        return [*_size_problems(shape, len(value), path), *items]
    if shape.type_name == "integer":
        return _size_problems(shape, value, path)
    if shape.type_name == "string":
        return _size_problems(shape, len(value), path) + _text_problems(shape, value, path)
    return []


def _size_problems(shape: Any, size: int, path: str) -> list[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        return [f"{path}: is less than {least}"]
    return [f"{path}: is more than {most}"] if most is not None and size > most else []


def _text_problems(shape: Any, text: str, path: str) -> list[str]:
    if shape.enum and text not in shape.enum:
        return [f"{path}: is none of {', '.join(shape.enum)}"]
    pattern = shape.metadata.get("pattern")
    return [f"{path}: does not match {pattern}"] if pattern and not _compiled(pattern).fullmatch(text) else []


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # The model's patterns are Java's.
    return re.compile(pattern.replace(r"\p{ASCII}", r"[\x00-\x7f]"))


def answer(operation: OperationModel, values: Mapping[str, Any]) -> Response:
    """The HTTP answer: members of the output shape by name; times are datetime, a blob is bytes."""
    shape: Any = operation.output_shape
    headers = {}
    body: dict[str, Any] = {}
    for name, member in shape.members.items():
        if values.get(name) is None:
            continue
        wire_name = member.serialization.get("name", name)
        if member.serialization.get("location") == "header":
            headers[wire_name] = str(values[name])
        else:
            body[wire_name] = _plain(values[name])
    payload = shape.serialization.get("payload")
    if payload:
        return Response(values[payload], status=200, headers=headers)
    return Response(json.dumps(body), status=200, headers=headers, content_type="application/json")


def error_answer(error: ServiceError) -> Response:
    """The HTTP of an error, as rest-json has it."""
    headers = {"x-amzn-ErrorType": error.code}
    return Response(json.dumps({"message": error.message}), status=error.status, headers=headers, content_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).timestamp()
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
