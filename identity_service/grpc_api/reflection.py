"""gRPC server reflection, v1 and v1alpha: it describes the services to tools such as grpcurl."""

from collections.abc import Sequence
from typing import Any, Final

from grpc_reflection.v1alpha import reflection, reflection_pb2

_V1: Final = "grpc.reflection.v1.ServerReflection"
SERVICE_NAMES: Final = (_V1, "grpc.reflection.v1alpha.ServerReflection")
"""The two versions, whose messages are the same."""


class ReflectionServicer:
    """A servicer that answers the messages of a reflection stream one by one."""

    def __init__(self, services: Sequence[str]) -> None:
        """Create a servicer that lists these services, by their full names, and reflection itself."""
        self._answers: Any = reflection.ReflectionServicer((*services, _V1))

    def answer(
        self, request: reflection_pb2.ServerReflectionRequest
    ) -> reflection_pb2.ServerReflectionResponse:
        """Return the response to one message of a stream."""
        return next(self._answers.ServerReflectionInfo(iter((request,)), None))
