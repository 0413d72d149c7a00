"""One DynamoDB table, in Python's own types.

Enters: keys, items, expressions. Leaves: items, or whether a condition held. Never: a scan; of an index aside, a stale read.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from importflow.errors import calling

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


class Table:
    """A table with a partition key only. Every method raises one of our errors where DynamoDB did not answer, or refused."""

    def __init__(self, client: "DynamoDBClient", name: str, key: str) -> None:
        """
        Args:
            key: name of the partition key, a string.
        """
        self._client = client
        self._name = name
        self._key = key

    def get(self, key: str) -> Item | None:
        """The item, None where there is none."""
        with calling("GetItem"):
            found = self._client.get_item(TableName=self._name, Key=self._key_of(key), ConsistentRead=True).get("Item")
        return _plain(found) if found else None

    def put_new(self, item: Item) -> bool:
        """Write an item unless there is one with its key. Returns whether it was written; also no where its own first answer was lost."""
        with calling("PutItem"):
            try:
                self._client.put_item(
                    TableName=self._name,
                    Item={name: _serialize(value) for name, value in item.items()},
                    ConditionExpression="attribute_not_exists(#key)",
                    ExpressionAttributeNames={"#key": self._key},
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def update(self, key: str, expression: str, condition: str, values: Mapping[str, Any]) -> Item | None:
        """Update an item on a condition. Returns the item as it then is, None where the condition did not hold.

        Args:
            expression: DynamoDB's update expression; every word in it that begins with # stands for the attribute of that name.
            condition: the same.
            values: by placeholder, without the colon; those that neither text names are left out.
        """
        text = f"{expression} {condition}"
        placed = _words(text, ":")
        request: dict[str, Any] = {
            "TableName": self._name,
            "Key": self._key_of(key),
            "UpdateExpression": expression,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {word: word[1:] for word in _words(text, "#")},
            "ReturnValues": "ALL_NEW",
        }
        # DynamoDB refuses an empty map, and a value that no expression names.
        if placed:
            request["ExpressionAttributeValues"] = {word: _serialize(values[word[1:]]) for word in placed}
        with calling("UpdateItem"):
            try:
                answer = self._client.update_item(**request)
            except self._client.exceptions.ConditionalCheckFailedException:
                return None
        return _plain(answer["Attributes"])

    def delete(self, key: str, condition: str, values: Mapping[str, Any]) -> bool:
        """Delete an item on a condition. Returns whether the condition held."""
        with calling("DeleteItem"):
            try:
                self._client.delete_item(
                    TableName=self._name,
                    Key=self._key_of(key),
                    ConditionExpression=condition,
                    ExpressionAttributeNames={word: word[1:] for word in _words(condition, "#")},
                    ExpressionAttributeValues={f":{name}": _serialize(value) for name, value in values.items()},
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def query(self, index: str, condition: str, values: Mapping[str, Any], attributes: tuple[str, ...]) -> Iterator[Item]:
        """Items of an index, which may lag behind the table, in the order of its range key.

        Args:
            attributes: those that are read.
        """
        names = {word: word[1:] for word in _words(condition, "#")}
        names |= {f"#{attribute}": attribute for attribute in attributes}
        request: dict[str, Any] = {
            "TableName": self._name,
            "IndexName": index,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {f":{name}": _serialize(value) for name, value in values.items()},
            "ProjectionExpression": ", ".join(f"#{attribute}" for attribute in attributes),
        }
        while True:
            with calling("Query"):
                answer = self._client.query(**request)
            yield from map(_plain, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _key_of(self, key: str) -> dict[str, Any]:
        return {self._key: {"S": key}}


def _plain(item: Mapping[str, Any]) -> Item:
    return {name: _number(_deserialize(value)) for name, value in item.items()}


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


def _words(text: str, sign: str) -> set[str]:
    return set(re.findall(rf"{sign}\w+", text))
