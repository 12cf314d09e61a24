"""One open server stream, as a servicer writes to it: without waiting for its client."""

from collections.abc import Callable
from typing import Protocol

from identity_service.grpc_api.errors import RpcStatus


class ResponseStream(Protocol):
    """Implemented by each engine. Any thread may call any method, and none of them waits for the client.

    A handler whose function has the attribute `experimental_non_blocking` is given one as its third argument,
    and returns at once; the stream stays open until `end`, `cancel`, or the client ends it.
    """

    @property
    def address(self) -> str:
        """Return the address that the client counts for, as `Peers.address_of` gives it; empty if exempt."""

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        """Begin to send one message. Call it again only after `taken` was called.

        Args:
            taken: called once, from any thread, when the transport has taken the message or the call has
                ended. It must return at once.
        """

    def end(self, status: RpcStatus | None) -> None:
        """End the stream after what was sent so far, with this status, or with OK. The first call counts."""

    def cancel(self) -> None:
        """End the call at once; a client that does not read learns of no status."""

    def is_active(self) -> bool:
        """Return whether the call is still open."""

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Have `callback` called when the call has ended; False if it has ended already. It must not wait."""
