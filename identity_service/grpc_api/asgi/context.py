"""Implements grpc.ServicerContext, a servicer's view of its call, for the ASGI engine.

The module sends nothing itself. Any thread may use it. A call ends once, by its response, its deadline, its
client or `cancel`; then its callbacks are called.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, NoReturn, cast

import grpc
import structlog

from identity_service.grpc_api.asgi.wire import Metadata, timeout_of, to_metadata
from identity_service.grpc_api.errors import RpcStatus
from identity_service.jose.certificates import alternative_names
from identity_service.transport.client_certificates import pem_from_envoy


class AbortedError(Exception):
    """The exception with which `abort` leaves the servicer; the status of the call is set already."""


class AsgiContext(grpc.ServicerContext):
    """The context of one call: metadata and deadline of the request, status and metadata of the response."""

    # Defaults are class attributes, since most calls are answered at once and change none of them. All calls
    # share one lock; it is held only while a callback is added.
    _lock = threading.Lock()
    _deadline: float | None = None
    _callbacks: tuple[Callable[[], None], ...] = ()
    _on_cancel: Callable[[], None] | None = None
    _begin: Callable[[], None] | None = None
    _active = True
    _code: grpc.StatusCode | None = None
    _details = ""
    _metadata: Metadata | None = None
    _trailing: Metadata = ()
    initial: Metadata = ()
    """The metadata to send before the first message."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope

    # The request

    def invocation_metadata(self) -> Metadata:
        """Return the custom metadata of the request."""
        if self._metadata is None:
            self._metadata = to_metadata(self._scope["headers"])
        return self._metadata

    def peer(self) -> str:
        """Return the address of the client, such as `ipv4:10.0.0.7:5000`; empty if the server knows none."""
        client = self._scope.get("client")
        if client is None:
            return ""
        host, port = client
        return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:  # type: ignore[override]  # as grpcio does
        """Return the properties of the client's certificate; empty without TLS or without a certificate."""
        pem = pem_from_envoy(self._scope)
        return {} if pem is None else _certificate_properties(pem)

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return None: servicers read the certificate from `auth_context` instead."""
        return None

    def peer_identity_key(self) -> str | None:
        """Return None, as `peer_identities` does."""
        return None

    # The state of the call

    def is_active(self) -> bool:
        """Return whether the call has not ended and its deadline has not passed."""
        return self._active and (self._deadline is None or time.monotonic() < self._deadline)

    def time_remaining(self) -> float | None:  # type: ignore[override]  # as grpcio does
        """Return the seconds until the deadline, at least 0; None if the call has no deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Register a callback for the end of the call; return False, without calling it, if it has ended."""
        with self._lock:
            if self._active:
                self._callbacks += (callback,)
            return self._active

    def cancel(self) -> bool:
        """End the call with CANCELLED; return False if it has ended or cannot be cancelled yet."""
        on_cancel = self._on_cancel  # another thread may end the call meanwhile
        if not self._active or on_cancel is None:
            return False
        self._code = grpc.StatusCode.CANCELLED
        on_cancel()
        return True

    # The response

    def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Set the initial metadata. Server streams send it at once, other calls with their first message."""
        self.initial = initial_metadata
        begin = self._begin
        if begin is not None:
            begin()

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set the metadata that is sent with the status."""
        self._trailing = trailing_metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status code of the call."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Set the status message of the call."""
        self._details = details

    def code(self) -> grpc.StatusCode | None:
        """Return the status code that was set, or None."""
        return self._code

    def details(self) -> str:
        """Return the status message that was set, or the empty string."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """Return the trailing metadata that was set."""
        return self._trailing

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Set the status, and raise AbortedError."""
        self._code, self._details = code, details
        raise AbortedError

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Set the status, its metadata included, and raise AbortedError."""
        self.set_status(cast("RpcStatus", status))
        raise AbortedError

    # For the engine

    def set_status(self, status: RpcStatus) -> None:
        """Set code, message and trailing metadata of the status."""
        self._code, self._details, self._trailing = status

    def limit(self, timeout: bytes) -> None:
        """Set the deadline from the header grpc-timeout. Raises WireError if the header is malformed."""
        self._deadline = time.monotonic() + timeout_of(timeout)

    def on_cancel(self, cancel: Callable[[], None]) -> None:
        """Set the function with which `cancel` ends the call early. It must be callable from any thread."""
        self._on_cancel = cancel

    def on_initial_metadata(self, begin: Callable[[], None]) -> None:
        """Set the function that sends initial metadata at once, for streams that may have no message yet."""
        self._begin = begin

    def end(self) -> None:
        """Mark the call as ended, and have a thread call its callbacks soon. A second call does nothing.

        The event loop, which calls this, does not run the callbacks itself: a callback may wait for a lock
        whose holder waits until the loop has sent a message (grpcio's health servicer does both).
        """
        with self._lock:
            if not self._active:
                return
            self._active = False
            callbacks, self._callbacks = self._callbacks, ()
        if self._on_cancel is not None:
            self._on_cancel = self._begin = None  # a stream and its call refer to each other until here
        if callbacks:
            # If the pool gets no thread, the callbacks wait in its queue; the call must end anyway.
            with suppress(RuntimeError):
                _CALLBACK_POOL.submit(_run_callbacks, callbacks)


def log_bug(method: str, error: BaseException) -> None:
    """Log an unhandled exception of a servicer, without its text, which may hold values of the request."""
    structlog.get_logger("identity.rpc").error("servicer_bug", method=method, error=type(error).__name__)


def start_telling() -> None:
    """Start the thread that calls callbacks of ended calls. Raises RuntimeError if the system gives none."""
    _CALLBACK_POOL.submit(_run_callbacks, ())


def _run_callbacks(callbacks: Iterable[Callable[[], None]]) -> None:
    """Call all of these callbacks, even if some of them raise."""
    for callback in callbacks:
        try:
            callback()
        except Exception as error:  # noqa: BLE001  # the other callbacks are called all the same
            log_bug("callback at the end of a call", error)


_CALLBACK_POOL: Final = ThreadPoolExecutor(1, "identity-ended")
"""The pool that runs the callbacks of ended calls. Its thread starts with the first task, which
`start_telling` submits."""


@lru_cache(maxsize=256)
def _certificate_properties(pem: bytes) -> Mapping[str, Sequence[bytes]]:
    """Return the properties of a client certificate under the names that grpcio gives them."""
    names = alternative_names(pem)
    return {
        "transport_security_type": [b"ssl"],
        "x509_pem_cert": [pem],
        "peer_uri": names.uris,
        "peer_dns": names.hosts,
    }
