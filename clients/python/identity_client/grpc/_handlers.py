"""The handlers that guards put before those of a server."""

from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from identity_client.admission import Admission
from identity_client.policy import Requirement

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = grpc.RpcMethodHandler  # generic in the type stubs only


class UnaryHandler(Handler):
    """The handler of one call with one request and one response; each guard has a subclass.

    gRPC calls `unary_unary` when the request has arrived. The token is verified only then, since a client may
    send its request long after the start of the call.
    """

    request_streaming = False
    response_streaming = False
    unary_stream = stream_unary = stream_stream = None

    def __init__(
        self,
        admission: Admission,
        asking: Any,
        handler: Handler,
        requirement: Requirement,
        values: list[str | bytes],
    ) -> None:
        """Put this handler before that of the server.

        Args:
            admission: decides on the call.
            asking: an `Asking` or `AsyncAsking`, as the subclass needs.
            handler: that of the server.
            requirement: that of the method.
            values: the values of the metadata `authorization`.
        """
        self.request_deserializer = handler.request_deserializer
        self.response_serializer = handler.response_serializer
        self._admission = admission
        self._asking = asking
        self._inner: Any = handler.unary_unary
        self._requirement = requirement
        self._values = values
