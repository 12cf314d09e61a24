"""Turns the messages of the service into values that commands print."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from identity_client.values import moment


def values_of(message: Message, *names: str) -> dict[str, Any]:
    """Return the fields of a message by name, or only those with these names, in their order.

    An enum is the name of its value, without the prefix and in lower case; a time is a datetime, a duration
    its seconds, and both are None if the field is unset.
    """
    fields = message.DESCRIPTOR.fields_by_name
    return {name: _value(message, fields[name]) for name in names or fields}


def _value(message: Message, field: Any) -> object:
    value = getattr(message, field.name)
    if isinstance(value, Timestamp | Duration) and not message.HasField(field.name):
        return None
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(each, field) for each in value]
    return _plain(value, field)


def _plain(value: Any, field: Any) -> object:
    if (enum := field.enum_type) is not None:
        known = enum.values_by_number.get(value)  # None: the service is newer than this command
        prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
        return str(value) if known is None else known.name.removeprefix(prefix).lower()
    match value:
        case Timestamp():
            return moment(value)
        case Duration():
            return value.ToTimedelta().total_seconds()
        case Message():
            return values_of(value)
        case _:
            return value
