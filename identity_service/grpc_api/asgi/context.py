"""One call as a servicer sees it: implements grpc.ServicerContext for the ASGI engine. Sends nothing itself.

Any thread may use it. A call ends once, by its answer, its deadline, its client or `cancel`; who asked to be
told is told then.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, NoReturn, cast

import grpc
import structlog

from identity_service.grpc_api.asgi.peer import FORWARDED, address_of, certificate_properties
from identity_service.grpc_api.asgi.wire import Metadata, timeout_of, to_metadata
from identity_service.grpc_api.errors import RpcStatus


class AbortedError(Exception):
    """Raised by `abort`: the call has its status, whatever the servicer was about to do."""


class AsgiContext(grpc.ServicerContext):
    """What a servicer may ask of its call, and say about its answer."""

    # Defaults of the class: most calls are answered at once and change none of them. The lock is one for all
    # calls; it is held for no longer than a callback is noted.
    _lock = threading.Lock()
    _deadline: float | None = None
    _callbacks: tuple[Callable[[], None], ...] = ()
    _on_cancel: Callable[[], None] | None = None
    _begin: Callable[[], None] | None = None
    _active = True
    _code: grpc.StatusCode | None = None
    _details = ""
    _trailing: Metadata = ()
    initial: Metadata = ()
    """Metadata to go out before the first message."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope

    # What came

    def invocation_metadata(self) -> Metadata:
        return to_metadata(self._scope["headers"])

    def peer(self) -> str:
        return address_of(self._scope)

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:  # type: ignore[override]  # as grpcio does
        if self._scope.get("scheme") != "https":
            return {}
        for name, value in self._scope["headers"]:
            if name == FORWARDED:
                return certificate_properties(value)
        return {}

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    # How it stands

    def is_active(self) -> bool:
        return self._active and (self._deadline is None or time.monotonic() < self._deadline)

    def time_remaining(self) -> float | None:  # type: ignore[override]  # as grpcio does
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._lock:
            if self._active:
                self._callbacks += (callback,)
            return self._active

    def cancel(self) -> bool:
        if not self._active or self._on_cancel is None:
            return False
        self._code = grpc.StatusCode.CANCELLED
        self._on_cancel()
        return True

    # What shall be answered

    def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        self.initial = initial_metadata
        if self._begin is not None:
            self._begin()

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        self._trailing = trailing_metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Metadata:
        return self._trailing

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self._code, self._details = code, details
        raise AbortedError

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self.set_status(cast("RpcStatus", status))
        raise AbortedError

    # For the engine

    def set_status(self, status: RpcStatus) -> None:
        """Set what the call ends with."""
        self._code, self._details, self._trailing = status

    def limit(self, timeout: bytes) -> None:
        """Take the header grpc-timeout for the deadline. Raises WireError where it cannot be read."""
        self._deadline = time.monotonic() + timeout_of(timeout)

    def on_cancel(self, cancel: Callable[[], None]) -> None:
        """What ends the call early; any thread may call it."""
        self._on_cancel = cancel

    def on_initial_metadata(self, begin: Callable[[], None]) -> None:
        """What begins to send it at once, for calls that may have no message for long."""
        self._begin = begin

    def end(self) -> None:
        """The call is over: who asked to be told is told soon, by a thread. Repeating it does nothing.

        Not by the caller, which is the event loop: a callback may wait for a lock whose holder waits for
        the loop to send something (the health servicer of grpcio does both).
        """
        with self._lock:
            if not self._active:
                return
            self._active = False
            callbacks, self._callbacks = self._callbacks, ()
        if callbacks:
            # Without a thread they wait in the queue of the pool; the call must end all the same.
            with suppress(RuntimeError):
                _TELLING.submit(_tell, callbacks)


def log_bug(method: str, error: BaseException) -> None:
    """A servicer let an exception out. Its text is not logged: it may hold a value of the request."""
    structlog.get_logger("identity.rpc").error("servicer_bug", method=method, error=type(error).__name__)


def start_telling() -> None:
    """Make the thread that tells of the end of calls. Raises RuntimeError if the system gives none."""
    _TELLING.submit(_tell, ())


def _tell(callbacks: Iterable[Callable[[], None]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception as error:  # noqa: BLE001  # the others are told all the same
            log_bug("callback at the end of a call", error)


_TELLING: Final = ThreadPoolExecutor(1, "identity-ended")
"""Makes its thread when it is first given something; `start_telling` does that early."""
