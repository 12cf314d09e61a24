"""gRPC server reflection, v1 and v1alpha: the protos of this service for tools such as grpcurl."""

from collections.abc import Sequence
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

_V1: Final = "grpc.reflection.v1.ServerReflection"
_V1_ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"


class ReflectionServicer:
    """Answers one message at a time, as the pipeline wants it of a stream of both sides."""

    def __init__(self, services: Sequence[str]) -> None:
        """`services` = full names of those to list, beside reflection itself."""
        self._answers = reflection.ReflectionServicer((*services, _V1))

    def ServerReflectionInfo(  # noqa: N802  # the stub's name
        self, request: reflection_pb2.ServerReflectionRequest, context: grpc.ServicerContext
    ) -> reflection_pb2.ServerReflectionResponse:
        return next(self._answers.ServerReflectionInfo(iter((request,)), context))


def add_to(server: Any, services: Sequence[str]) -> None:
    """Register the servicer under both names; the messages of v1alpha and v1 are the same."""
    servicer = ReflectionServicer(services)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    alpha = _Capture()
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, alpha)
    server.add_registered_method_handlers(_V1, alpha.handlers[_V1_ALPHA])


class _Capture:
    """Takes the handlers that generated code registers, to register them under another name."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Comes with the same handlers as the other method."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        self.handlers[service_name] = method_handlers
