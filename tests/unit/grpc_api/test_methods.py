"""The table of methods has an entry for every method of the protos, and each entry fits its method."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_type_hints

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from identity_service.grpc_api.admin import AdminServicer
from identity_service.grpc_api.audit import AuditHandlers
from identity_service.grpc_api.ext_authz.servicer import ExtAuthzServicer
from identity_service.grpc_api.ext_authz.wire import auth_pb2
from identity_service.grpc_api.health import HealthServicer
from identity_service.grpc_api.issue import IssueServicer
from identity_service.grpc_api.method_spec import Access, Conversation, MethodSpec, Stream, Unary
from identity_service.grpc_api.methods import METHODS, SERVICES, method_table
from identity_service.grpc_api.reflection import ReflectionServicer
from identity_service.grpc_api.revoke import RevokeServicer
from identity_service.grpc_api.trust import TrustServicer
from identity_service.grpc_api.verify import VerifyServicer
from identityapi import v1

OWN = [
    service
    for found in iter_modules(v1.__path__)
    if found.name.endswith("_pb2")
    for service in import_module(f"identityapi.v1.{found.name}").DESCRIPTOR.services_by_name.values()
]
OWN.append(auth_pb2.DESCRIPTOR.services_by_name["Authorization"])
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
REFLECTION_V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
"""grpcio has no descriptor of version 1 of reflection; its messages are those of v1alpha."""


def table(*, reflection: bool) -> Mapping[str, MethodSpec]:
    """Return the table for servicers without dependencies: no test calls a method."""
    kinds = (
        *(IssueServicer, VerifyServicer, RevokeServicer, TrustServicer, AdminServicer, AuditHandlers),
        *(ExtAuthzServicer, HealthServicer),
    )
    parts: list[Any] = [object.__new__(kind) for kind in kinds]
    parts.append(ReflectionServicer(()) if reflection else None)
    return method_table(*parts)


def methods(*services: ServiceDescriptor) -> dict[str, MethodDescriptor]:
    return {
        f"/{service.full_name}/{method.name}": method for service in services for method in service.methods
    }


def test_every_method_of_every_proto_has_an_entry_and_nothing_else_has() -> None:
    """The test reads every compiled proto, so that one added later needs entries too."""
    assert {service.full_name for service in OWN} == set(SERVICES)
    assert methods(*OWN).keys() == METHODS
    assert table(reflection=False).keys() == methods(*OWN, HEALTH).keys()
    assert table(reflection=True).keys() == {*methods(*OWN, HEALTH, REFLECTION), REFLECTION_V1}


@pytest.mark.parametrize("name", methods(*OWN, HEALTH, REFLECTION))
def test_an_entry_takes_and_gives_the_messages_of_its_method(name: str) -> None:
    method, spec = methods(*OWN, HEALTH, REFLECTION)[name], table(reflection=True)[name]

    assert spec.request is GetMessageClass(method.input_type)
    assert isinstance(spec, Stream | Conversation) == method.server_streaming
    assert isinstance(spec, Conversation) == method.client_streaming
    if isinstance(spec, Unary | Conversation):
        function = spec.serve if isinstance(spec, Unary) else spec.answer
        assert get_type_hints(function)["return"] is GetMessageClass(method.output_type)


def test_both_versions_of_reflection_have_one_entry() -> None:
    found = table(reflection=True)

    assert found[REFLECTION_V1] is found[next(iter(methods(REFLECTION)))]


def test_methods_that_need_a_scope_name_it_and_streams_are_limited() -> None:
    for name, spec in table(reflection=True).items():
        assert bool(spec.rule.scope) == (spec.rule.access is not Access.OPEN), name
        assert (spec.rule.streams is not None) == isinstance(spec, Stream | Conversation), name


def test_the_requests_of_strangers_are_bounded_before_they_are_parsed() -> None:
    """A parsed request takes many times the memory of its bytes, and strangers may send requests."""
    for name, spec in table(reflection=True).items():
        if spec.rule.access not in (Access.SCOPE, Access.OWN_OR_SCOPE):
            assert spec.max_bytes is not None or spec.check is not None, name
