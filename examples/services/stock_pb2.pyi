from identityapi.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class CountRequest(_message.Message):
    __slots__ = ("item",)
    ITEM_FIELD_NUMBER: _ClassVar[int]
    item: str
    def __init__(self, item: _Optional[str] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("quantity", "subject", "actors")
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    quantity: int
    subject: str
    actors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, quantity: _Optional[int] = ..., subject: _Optional[str] = ..., actors: _Optional[_Iterable[str]] = ...) -> None: ...
