"""Reads the requirement of each method from compiled protos: the method option `(identityapi.v1.access)`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from identity_service.domain.errors import ConfigurationError
from identity_service.grpc_api.ext_authz.policy import Requirement, problems
from identityapi.v1 import access_pb2

_SETTING: Final = "ext_authz_descriptors"
_OPTION: Final[Any] = access_pb2.access  # its type in the stubs is not the one that extensions take


def read_requirements(path: Path | None) -> Mapping[str, Requirement]:
    """Return the requirement of each method that has the option, by its path, as `/shop.v1.Orders/GetOrder`.

    A method is absent, and thus refused, if it names neither an audience nor that it is public: a gateway has
    no audience of its own that could be the default.

    Without a file, there are none. Raises ConfigurationError if the file cannot be read, or if an option is
    not acceptable.
    """
    if path is None:
        return {}
    try:
        declared = FileDescriptorSet.FromString(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{_SETTING}: cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise ConfigurationError(
            f"{_SETTING}: {path} is not a FileDescriptorSet; make one with `protoc --descriptor_set_out` or "
            "`buf build --as-file-descriptor-set`"
        ) from error
    found: dict[str, Requirement] = {}
    for name, access in _options(declared):
        for value, rule in problems(access.audience, access.scopes, public=access.public):
            raise ConfigurationError(f"{_SETTING}: {name} in {path}: {value} {rule}")
        requirement = Requirement(audience=access.audience, scopes=tuple(access.scopes), public=access.public)
        if found.setdefault(name, requirement) != requirement:
            raise ConfigurationError(f"{_SETTING}: {path} declares {name} twice, with different options")
    if not found:
        raise ConfigurationError(
            f"{_SETTING}: no method in {path} has the option (identityapi.v1.access), so every call would be "
            "refused; compile the protos that declare your services"
        )
    return {name: each for name, each in found.items() if each.audience or each.public}


def _options(declared: FileDescriptorSet) -> Iterator[tuple[str, access_pb2.Access]]:
    for file in declared.file:
        prefix = f"{file.package}." if file.package else ""
        for service in file.service:
            for method in service.method:
                if method.options.HasExtension(_OPTION):
                    yield f"/{prefix}{service.name}/{method.name}", method.options.Extensions[_OPTION]
