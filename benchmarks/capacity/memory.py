"""A DynamoDB table in memory, with the expressions that the functions use.

Enters: the calls of `importflow.table.Table`. Leaves: what DynamoDB would answer. Never: an expression that is only half understood.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

Item = dict[str, Any]
Values = Mapping[str, Any]
Condition = Callable[[Item, Values], bool]
Operand = Callable[[Item, Values], Any]

_TOKEN = re.compile(r"\s*(attribute_not_exists|contains|size|AND|OR|IN|[#:]\w+|<=|>=|<>|[=<>(),])")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class _Parser:
    """As far as it is used here.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html
    """

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"not understood: {text[at:]!r}")
            self.tokens.append(found[1])
            at = found.end()

    def take(self, *expected: str) -> str:
        if not self.tokens or (expected and self.tokens[0] not in expected):
            raise ValueError(f"{expected} expected, and there is {self.tokens[:1]}")
        return self.tokens.pop(0)

    def any_of(self) -> Condition:
        parts = [self.all_of()]
        while self.tokens[:1] == ["OR"]:
            self.take("OR")
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else lambda item, values: any(part(item, values) for part in parts)

    def all_of(self) -> Condition:
        parts = [self.one()]
        while self.tokens[:1] == ["AND"]:
            self.take("AND")
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else lambda item, values: all(part(item, values) for part in parts)

    def one(self) -> Condition:
        if self.tokens[:1] == ["("]:
            self.take("(")
            inner = self.any_of()
            self.take(")")
            return inner
        if self.tokens[:1] == ["attribute_not_exists"]:
            self.take()
            self.take("(")
            absent = self.take()[1:]
            self.take(")")
            return lambda item, values: absent not in item
        if self.tokens[:1] == ["contains"]:
            self.take()
            self.take("(")
            whole = self.operand()
            self.take(",")
            part = self.operand()
            self.take(")")
            return lambda item, values: part(item, values) in (whole(item, values) or ())
        left = self.operand()
        if self.tokens[:1] == ["IN"]:
            self.take()
            self.take("(")
            choices = [self.operand()]
            while self.take(",", ")") == ",":
                choices.append(self.operand())
            return lambda item, values: left(item, values) in [choice(item, values) for choice in choices]
        compare = _COMPARE[self.take(*_COMPARE)]
        right = self.operand()

        def compared(item: Item, values: Values) -> bool:
            a, b = left(item, values), right(item, values)
            # An attribute that is absent compares with nothing.
            return a is not None and b is not None and compare(a, b)

        return compared

    def operand(self) -> Operand:
        token = self.take()
        if token == "size":
            self.take("(")
            inner = self.operand()
            self.take(")")
            return lambda item, values: len(inner(item, values))
        name = token[1:]
        if token[0] == "#":
            return lambda item, values: item.get(name)
        return lambda item, values: values[name]


@cache
def _condition(text: str) -> Condition:
    parser = _Parser(text)
    whole = parser.any_of()
    if parser.tokens:
        raise ValueError(f"not understood: {parser.tokens}")
    return whole


_VERB = re.compile(r"\s*\b(SET|REMOVE|ADD|DELETE) ")
_MEMBER = re.compile(r"#(\w+)()(?: :(\w+))?")
_ASSIGNMENT = re.compile(r"#(\w+) = (?:#(\w+) \+ )?:(\w+)")


@cache
def _update(text: str) -> list[tuple[str, str, str, str]]:
    """Verb, attribute, attribute added to, value; "" for what there is not."""
    before, *clauses = _VERB.split(text)
    if before:
        raise ValueError(f"not understood: {text!r}")
    changes = []
    for verb, body in zip(clauses[::2], clauses[1::2], strict=True):
        for part in body.split(", "):
            found = (_ASSIGNMENT if verb == "SET" else _MEMBER).fullmatch(part)
            if found is None:
                raise ValueError(f"not understood: {part!r}")
            changes.append((verb, found[1], found[2] or "", found[3] or ""))
    return changes


class Table:
    """As `importflow.table.Table`, and an index by one attribute.

    Args:
        key: name of the partition key.
        index: attribute that queries ask for.
    """

    def __init__(self, key: str, index: str) -> None:
        self._key, self._index = key, index
        self.items: dict[str, Item] = {}
        self._by_index: dict[str, list[str]] = defaultdict(list)

    def get(self, key: str) -> Item | None:
        item = self.items.get(key)
        return dict(item) if item is not None else None

    def put_new(self, item: Item) -> bool:
        key = item[self._key]
        if key in self.items:
            return False
        self.items[key] = dict(item)
        if self._index in item:
            self._by_index[item[self._index]].append(key)
        return True

    def update(self, key: str, expression: str, condition: str, values: Values) -> Item | None:
        item = self.items.get(key, {})
        if not _condition(condition)(item, values):
            return None
        changed = {self._key: key} | item
        for verb, name, added_to, value in _update(expression):
            if verb == "SET":
                changed[name] = item[added_to] + values[value] if added_to else values[value]
            elif verb == "ADD":
                changed[name] = item.get(name, set()) | values[value]
            elif verb == "DELETE":
                left = item.get(name, set()) - values[value]
                changed.pop(name, None)
                # DynamoDB has no empty sets.
                changed |= {name: left} if left else {}
            else:
                changed.pop(name, None)
        self.items[key] = changed
        return dict(changed)

    def delete(self, key: str, condition: str, values: Values) -> bool:
        if not _condition(condition)(self.items.get(key, {}), values):
            return False
        self.items.pop(key, None)
        return True

    def query(self, index: str, condition: str, values: Values, attributes: tuple[str, ...]) -> Iterator[Item]:
        asked = re.match(rf"#{self._index} = :(\w+)", condition)
        if asked is None:
            raise ValueError(f"no index for {condition!r}")
        holds = _condition(condition)
        for key in self._by_index[values[asked[1]]]:
            item = self.items[key]
            if holds(item, values):
                yield {name: item[name] for name in attributes if name in item}
