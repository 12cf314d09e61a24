"""Builds compiled protos whose methods have the option `(identityapi.v1.access)`. Asserts nothing."""

from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from identityapi.v1 import access_pb2

_OPTION: Final[Any] = access_pb2.access


def write_descriptors(path: Path, **methods: access_pb2.Access | None) -> Path:
    """Write the descriptors of a service `shop.v1.Orders` that has these methods; return the file's path."""
    declared = FileDescriptorSet()
    service = declared.file.add(package="shop.v1").service.add(name="Orders")
    for name, access in methods.items():
        method = service.method.add(name=name)
        if access is not None:
            method.options.Extensions[_OPTION].CopyFrom(access)
    path.write_bytes(declared.SerializeToString())
    return path
