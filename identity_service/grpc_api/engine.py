"""The port to an engine, the transport that carries calls: grpcio's server, or an ASGI server behind Envoy.

The pipeline makes one handler of each method, and the engine runs it in the handler's threads. Handlers take
and return bytes, and end a call by `abort` of its context.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import grpc

from identity_service.grpc_api.errors import RpcStatus
from identity_service.grpc_api.threads import Threads

Context: TypeAlias = grpc.ServicerContext

MAX_METADATA_BYTES: Final = 32 * 1024
"""The longest headers of one call, as HTTP/2 counts them (RFC 9113 section 6.5.2); RESOURCE_EXHAUSTED beyond
it."""


class ResponseStream(Protocol):
    """One open server stream, through which a servicer writes without waiting for the client.

    Each engine implements it. Any thread may call any method, and no method waits for the client. The stream
    stays open until `end` or `cancel` is called, or the client ends it.
    """

    @property
    def address(self) -> str:
        """Return the address under which the client counts (`Peers.address_of`); empty if exempt."""

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        """Start to send one message. Call it again only after `taken` was called.

        Args:
            message: the serialized message.
            taken: called once, from any thread, when the transport has taken the message or the call has
                ended. It must return at once.
        """

    def end(self, status: RpcStatus | None) -> None:
        """End the stream after the messages sent so far. Only the first call has an effect.

        `status` is the final status; None = OK.
        """

    def cancel(self) -> None:
        """End the call at once; a client that does not read gets no status."""

    def is_active(self) -> bool:
        """Return whether the call is still open."""

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Register a callback that runs when the call ends; it must not wait.

        Returns False, without registering it, if the call has ended already.
        """


InstantResponse: TypeAlias = tuple[bytes, bool]
"""A response, and whether it was cached; False = it was computed for this call."""

Instant: TypeAlias = Callable[[bytes, Context], InstantResponse | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryHandler:
    """The handler of a method with one response."""

    threads: Threads
    answer: Callable[[bytes, Context], bytes]
    """A function that returns the response to a request."""
    instant: Instant | None = None
    """A function that returns the response if it is cached or quickly computed, else None. An event loop and
    grpcio's serving thread may call it, since it never waits.

    None = the method has no such responses.
    """
    max_bytes: int | None = None
    """The longest message that the method accepts; None = the limit of the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHandler:
    """The handler of a method with a server stream."""

    threads: Threads
    open: Callable[[bytes, Context, ResponseStream], None]
    """A function that begins to answer a request on the stream, and returns at once."""
    max_bytes: int | None = None
    """The longest message that the method accepts; None = the limit of the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationHandler:
    """The handler of a bidirectional method that answers each message by itself."""

    threads: Threads
    open: Callable[[Context], Callable[[bytes], bytes]]
    """A function that returns the function that answers one message."""
    max_bytes: int | None = None
    """The longest message that the method accepts; None = the limit of the engine."""


Handler: TypeAlias = UnaryHandler | StreamHandler | ConversationHandler


class Engine(Protocol):
    """The transport that carries calls to the handlers."""

    def register(self, method: str, handler: Handler) -> None:
        """Serve a method, by its full name, with this handler. Call it before `start`."""

    def start(self) -> int:
        """Accept calls and return the port; 0 if another process listens. Raises ConfigurationError."""

    def stop(self, grace: float) -> bool:
        """Let calls in progress finish; return whether all finished within `grace` seconds."""
