"""gRPC server reflection, v1 and v1alpha: it describes the services to tools such as grpcurl."""

from collections.abc import Sequence
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

_V1: Final = "grpc.reflection.v1.ServerReflection"
_V1_ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"


class ReflectionServicer:
    """Answers one message at a time, as the pipeline requires of a bidirectional stream."""

    def __init__(self, services: Sequence[str]) -> None:
        """List these services, by their full names, beside reflection itself."""
        self._answers = reflection.ReflectionServicer((*services, _V1))

    def ServerReflectionInfo(  # noqa: N802  # the stub's name
        self, request: reflection_pb2.ServerReflectionRequest, context: grpc.ServicerContext
    ) -> reflection_pb2.ServerReflectionResponse:
        """Return the response to one message of a stream."""
        return next(self._answers.ServerReflectionInfo(iter((request,)), context))


def add_to(server: Any, services: Sequence[str]) -> None:
    """Register the servicer as v1 and as v1alpha, whose messages are the same."""
    servicer = ReflectionServicer(services)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    alpha = _HandlerRecorder()
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, alpha)
    server.add_registered_method_handlers(_V1, alpha.handlers[_V1_ALPHA])


class _HandlerRecorder:
    """Records the handlers that generated code registers, to register them under another name."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Ignore them: the other method gets the same handlers."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Record the handlers of a service."""
        self.handlers[service_name] = method_handlers
