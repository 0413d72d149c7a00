"""The CloudFormation templates as plain descriptions of resources: every parameter, condition and function resolved.

Enters: a template, parameters. Leaves: resources by path ("Storage/DicomBucket"), outputs.
Never: a request to AWS, a function or an attribute that is guessed: what is not known here is an error.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from fastscp.local.physical import PSEUDO_PARAMETERS, attribute_of, reference_of

_SUBSTITUTED = re.compile(r"\$\{(!?)([^}]+)\}")
_MISSING = object()


class TemplateError(Exception):
    """A template or its parameters are refused; says where."""


class Resource(NamedTuple):
    """One resource.

    Attributes:
        ref: what Ref of it gives: its physical id, by CloudFormation's rules for its type.
    """

    type: str
    properties: dict[str, Any]
    ref: str


class Resolved(NamedTuple):
    """A stack with all that is nested in it."""

    resources: dict[str, Resource]
    outputs: dict[str, Any]

    def of_type(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources.values() if resource.type == kind]


class _Loader(yaml.CSafeLoader):
    """YAML with CloudFormation's short forms of functions, read into the long ones."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


def load(path: Path) -> dict[str, Any]:
    """A template as its YAML has it, functions in their long form. Shared: not to be changed."""
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(text: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe loader
    return template


def resolve(
    path: Path,
    parameters: Mapping[str, str],
    *,
    stack: str = "fastscp",
    region: str = "us-east-1",
    account: str = "0" * 12,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Resolved:
    """The stack that these parameters make of a template. Nested templates are read from the same directory, by the ends of their URLs.

    Args:
        names: by path, what resources are called that the templates leave to CloudFormation to name.

    Raises:
        TemplateError: a parameter is unknown, missing or refused, a rule does not hold, there is no such resource to name, or the
            template says what is not understood.
    """
    resolved = _Stack(path, parameters, stack, "", {"AWS::Region": region, "AWS::AccountId": account}, names).resolved()
    if unknown := names.keys() - resolved.resources.keys():
        raise TemplateError(f"{path.name}: there is no resource {', '.join(sorted(unknown))} to name")
    return resolved


class _Stack:
    def __init__(
        self, path: Path, parameters: Mapping[str, str], name: str, where: str, pseudo: Mapping[str, str], names: Mapping[str, str]
    ) -> None:
        self._path = path
        self._names = names
        self._name = name
        self._where = where
        stack_id = f"arn:aws:cloudformation:{pseudo['AWS::Region']}:{pseudo['AWS::AccountId']}:stack/{name}/{'0' * 8}"
        self._pseudo = {**PSEUDO_PARAMETERS, **pseudo, "AWS::StackName": name, "AWS::StackId": stack_id}
        self._template = load(path)
        self._nested: dict[str, Resolved] = {}
        self._conditions: dict[str, bool] = {}
        self._parameters = self._accepted(parameters)
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": self._condition,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::If": self._if,
            "Fn::FindInMap": self._find_in_map,
            "Fn::Equals": lambda pair: str(self.value(pair[0])) == str(self.value(pair[1])),
            "Fn::Not": lambda one: not self.value(one[0]),
            "Fn::And": lambda several: all(map(self.value, several)),
            "Fn::Or": lambda several: any(map(self.value, several)),
            "Fn::Contains": lambda pair: self.value(pair[1]) in self.value(pair[0]),
            "Fn::Join": lambda pair: pair[0].join(map(str, self.value(pair[1]))),
            "Fn::Split": lambda pair: self.value(pair[1]).split(pair[0]),
            "Fn::Select": lambda pair: self.value(pair[1])[int(self.value(pair[0]))],
            "Fn::GetAZs": lambda _: [f"{self._pseudo['AWS::Region']}{letter}" for letter in "abc"],
            "Fn::Cidr": self._cidr,
        }
        for rule, body in self._template.get("Rules", {}).items():
            if "RuleCondition" not in body or self.value(body["RuleCondition"]):
                for one in body["Assertions"]:
                    if not self.value(one["Assert"]):
                        raise self._error(f"rule {rule}: {one['AssertDescription']}")

    def resolved(self) -> Resolved:
        resources: dict[str, Resource] = {}
        for name, body in self._template["Resources"].items():
            if not self._exists(name):
                continue
            if body["Type"] == "AWS::CloudFormation::Stack":
                nested = self._nested_stack(name)
                resources |= nested.resources
            else:
                resources[self._where + name] = Resource(body["Type"], self.value(body.get("Properties", {})), self._ref(name))
        outputs = self._template.get("Outputs", {})
        made = {name: body["Value"] for name, body in outputs.items() if "Condition" not in body or self._condition(body["Condition"])}
        return Resolved(resources, {name: self.value(value) for name, value in made.items()})

    def value(self, node: Any) -> Any:
        """A part of the template with its functions carried out; what is AWS::NoValue is left out of its list or mapping."""
        if isinstance(node, list):
            return [value for value in map(self.value, node) if value is not _MISSING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name in self._functions and (name != "Condition" or isinstance(argument, str)):
                return self._functions[name](argument)
            if name.startswith("Fn::"):
                raise self._error(f"{name} is not understood")
        values = {key: self.value(one) for key, one in node.items()}
        return {key: one for key, one in values.items() if one is not _MISSING}

    def _error(self, text: str) -> TemplateError:
        return TemplateError(f"{self._path.name}: {text}")

    def _accepted(self, given: Mapping[str, str]) -> dict[str, Any]:
        declared = self._template.get("Parameters", {})
        if unknown := set(given) - set(declared):
            raise self._error(f"there is no parameter {', '.join(sorted(unknown))}")
        accepted: dict[str, Any] = {}
        for name, body in declared.items():
            value = given.get(name, body.get("Default", _MISSING))
            if value is _MISSING:
                raise self._error(f"parameter {name} is missing")
            text = str(value)
            if "AllowedValues" in body and text not in map(str, body["AllowedValues"]):
                raise self._error(f"parameter {name}: {text!r} is not one of its values")
            if "AllowedPattern" in body and not re.fullmatch(body["AllowedPattern"], text):
                raise self._error(f"parameter {name}: {text!r} does not match its pattern")
            if body["Type"] == "Number" and not body.get("MinValue", 0) <= float(text) <= body.get("MaxValue", float("inf")):
                raise self._error(f"parameter {name}: {text} is out of its range")
            accepted[name] = text.split(",") if body["Type"] == "CommaDelimitedList" else text
        return accepted

    def _exists(self, name: str) -> bool:
        body = self._template["Resources"].get(name)
        if body is None:
            raise self._error(f"there is no resource {name}")
        return "Condition" not in body or self._condition(body["Condition"])

    def _condition(self, name: str) -> bool:
        if name not in self._conditions:
            if name not in self._template.get("Conditions", {}):
                raise self._error(f"there is no condition {name}")
            self._conditions[name] = bool(self.value(self._template["Conditions"][name]))
        return self._conditions[name]

    def _if(self, argument: list[Any]) -> Any:
        condition, then, otherwise = argument
        return self.value(then if self._condition(condition) else otherwise)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _MISSING
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._parameters:
            return self._parameters[name]
        if not self._exists(name):
            raise self._error(f"{name} is used and not made")
        return reference_of(self._template["Resources"][name]["Type"], self._physical_name(name), self._pseudo)

    def _get_att(self, argument: list[str]) -> Any:
        name, attribute = argument
        if not self._exists(name):
            raise self._error(f"{name} is used and not made")
        kind = self._template["Resources"][name]["Type"]
        if kind == "AWS::CloudFormation::Stack":
            outputs = self._nested_stack(name).outputs
            wanted = attribute.removeprefix("Outputs.")
            if wanted not in outputs:
                raise self._error(f"{name} has no output {wanted}")
            return outputs[wanted]
        try:
            return attribute_of(kind, self._physical_name(name), attribute, self._pseudo)
        except KeyError as error:
            raise self._error(f"attribute {attribute} of {name} ({kind}) is not known") from error

    def _physical_name(self, name: str) -> str:
        """What the template names the resource, or what was asked for, or a name like those that CloudFormation makes."""
        properties = self._template["Resources"][name].get("Properties", {})
        for key in ("StateMachineName", "LogGroupName", "FunctionName", "TableName", "QueueName", "BucketName", "TopicName", "TrailName"):
            if key in properties:
                return str(self.value(properties[key]))
        return self._names.get(self._where + name, f"{self._name}-{name}")

    def _nested_stack(self, name: str) -> Resolved:
        if name not in self._nested:
            properties = self._template["Resources"][name]["Properties"]
            path = self._path.parent / str(self.value(properties["TemplateURL"])).rpartition("/")[2]
            parameters = self.value(properties.get("Parameters", {}))
            nested = _Stack(path, parameters, f"{self._name}-{name}", f"{self._where}{name}/", self._pseudo, self._names)
            self._nested[name] = nested.resolved()
        return self._nested[name]

    def _sub(self, argument: Any) -> str:
        text, own = (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])

        def replace(match: re.Match[str]) -> str:
            literal, name = match[1], match[2]
            if literal:
                return f"${{{name}}}"
            if name in own:
                return str(self.value(own[name]))
            return str(self._get_att(name.split(".", 1)) if "." in name else self._ref(name))

        return _SUBSTITUTED.sub(replace, text)

    def _find_in_map(self, argument: list[Any]) -> Any:
        node: Any = self._template["Mappings"]
        for key in map(self.value, argument):
            if key not in node:
                raise self._error(f"there is no {key} in the mapping {argument[0]}")
            node = node[key]
        return node

    def _cidr(self, argument: list[Any]) -> list[str]:
        network, count, bits = (self.value(one) for one in argument)
        # CloudFormation counts the bits of the host part, and gives the first networks of that size.
        found = ipaddress.ip_network(network).subnets(new_prefix=32 - int(bits))
        return [str(next(found)) for _ in range(int(count))]
