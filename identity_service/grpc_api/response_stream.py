"""The port through which a servicer writes to one open server stream without waiting for the client."""

from collections.abc import Callable
from typing import Protocol

from identity_service.grpc_api.errors import RpcStatus


class ResponseStream(Protocol):
    """One open server stream; each engine implements it.

    Any thread may call any method, and no method waits for the client. A handler whose function has the
    attribute `experimental_non_blocking` gets a stream as its third argument and returns at once; the stream
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
