"""A service that uses the client, and asks the identity service about the token of each call.

It has a method of each kind. Like a guard, it names a refused token by the hash of its id.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from identity_shared.token_ids import ID_SHA256, hash_token_id, unverified_token_id
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from tests.tls import Certifier

SERVICE = "tests.Echo"
ONE, MANY, SUM, CHAT = (f"/{SERVICE}/{name}" for name in ("One", "Many", "Sum", "Chat"))


class Echo:
    """A service that echoes messages, and keeps the tokens of its calls."""

    def __init__(self, reason: Callable[[str], str]) -> None:
        """Create the service; `reason` returns why a token is rejected, or "" if it is valid."""
        self._reason = reason
        self.seen: list[str] = []
        """The tokens of all calls, refused ones included, in their order."""
        self.runs = 0
        """The number of calls whose handler has run."""
        self.further_down: str | None = None
        """A token that another service has refused; if it is set, handlers pass that error on."""
        self.hold = threading.Event()
        """No call is answered while this event is cleared."""
        self.hold.set()
        self.ended = threading.Event()
        """Set when a call has ended, perhaps before its handler has returned."""

    @contextmanager
    def serving(self, certifier: "Certifier | None" = None) -> Iterator[str]:
        """Serve on loopback, with TLS if there is an authority; yield the target."""
        server = grpc.server(ThreadPoolExecutor(8))
        make = grpc.method_handlers_generic_handler
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "One": grpc.unary_unary_rpc_method_handler(self._one),
            "Many": grpc.unary_stream_rpc_method_handler(self._many),
            "Sum": grpc.stream_unary_rpc_method_handler(self._sum),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
        }
        server.add_generic_rpc_handlers((make(SERVICE, handlers),))
        if certifier is None:
            target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        else:
            made = certifier.server()
            pair = (made.key_file.read_bytes(), made.certificate_file.read_bytes())
            credentials = grpc.ssl_server_credentials([pair])
            target = f"localhost:{server.add_secure_port('127.0.0.1:0', credentials)}"
        server.start()
        try:
            yield target
        finally:
            server.stop(None).wait()

    def _admit(self, context: grpc.ServicerContext) -> None:
        sent = dict(context.invocation_metadata()).get("authorization", "")
        token = str(sent).removeprefix("Bearer ")
        self.seen.append(token)
        context.add_callback(self.ended.set)
        assert self.hold.wait(PATIENCE)
        if self._reason(token):
            self._refuse(context, token)
        self.runs += 1
        if self.further_down is not None:
            self._refuse(context, self.further_down)

    def _refuse(self, context: grpc.ServicerContext, token: str) -> None:
        info = error_details_pb2.ErrorInfo(reason="CALLER_UNAUTHENTICATED", domain="identityapi.v1")
        info.metadata[ID_SHA256] = hash_token_id(unverified_token_id(token))
        status = status_pb2.Status(code=code_pb2.UNAUTHENTICATED, message="the token was refused")
        status.details.add().Pack(info)
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        context.set_trailing_metadata(details)
        context.abort(grpc.StatusCode.UNAUTHENTICATED, status.message)

    def _one(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._admit(context)
        return request

    def _many(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._admit(context)
        yield from [request] * 3

    def _sum(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._admit(context)
        return b"".join(requests)

    def _chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._admit(context)
        yield from requests


def stub(channel: Any, method: str) -> Any:
    """Return the function that calls the method, for a channel of either kind."""
    kinds = {ONE: "unary_unary", MANY: "unary_stream", SUM: "stream_unary", CHAT: "stream_stream"}
    return getattr(channel, kinds[method])(method)
