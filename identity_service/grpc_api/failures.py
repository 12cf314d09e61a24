"""The end of calls that failed: their status, their log line, and their trailing metadata."""

import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, NoReturn

import grpc

from identity_service.domain import errors
from identity_service.grpc_api.calls import bind_trace
from identity_service.grpc_api.errors import status_code, to_status


class Failures:
    """The end of the calls that fail: each is logged, counted, and gets the status of its error."""

    def __init__(self, log: Any, count: Callable[[str, grpc.StatusCode, float], None]) -> None:
        """Log to the log of calls, and count each call with a function.

        `count` gets the method, the code, and the `perf_counter` at which the call began.
        """
        self._log = log
        self._count = count
        self._stopping = False

    def stop(self) -> None:
        """Note that the store is closed from now on: calls still in progress end with SHUTTING_DOWN."""
        self._stopping = True

    def fail(
        self,
        method: str,
        context: grpc.ServicerContext,
        error: Exception,
        id_: str,
        started: float,
    ) -> NoReturn:
        """Log and count the failure, and abort the call with the status of the error."""
        bind_trace(context)
        if self._is_of_stop(error):
            error = errors.ShuttingDownError()
        code = status_code(error)
        if not context.is_active():
            self._count(method, grpc.StatusCode.CANCELLED, started)
            self._log_call(method, "CANCELLED", id_, started)
        elif isinstance(error, TimeoutError) and context.time_remaining() == 0:
            # gRPC's core has not noticed it yet; this is the status that it would send.
            self._count(method, grpc.StatusCode.DEADLINE_EXCEEDED, started)
            self._log_call(method, "DEADLINE_EXCEEDED", id_, started)
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        elif code is grpc.StatusCode.INTERNAL:
            self._count(method, code, started)
            # Log the place only: the text of an unknown exception may contain a value of the request.
            frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            self._log.error(
                "rpc_bug", method=method, request_id=id_, error=type(error).__name__, frames=frames[-8:]
            )
        else:
            self._count(method, code, started)
            self._log_call(method, code.name, id_, started, reason=getattr(error, "reason", None))
        context.abort_with_status(to_status(error, id_))  # type: ignore[arg-type]  # it has the fields of grpc.Status
        raise AssertionError("abort_with_status does not return")

    def _is_of_stop(self, error: Exception) -> bool:
        """Return whether a call failed because the process stops: its store is closed, or it was cancelled.

        Only pools that are shut down cancel work. A change that was made and not confirmed (NOT_CONFIRMED),
        and a store that was moved, keep their own reason.
        """
        of_store = (
            isinstance(error, errors.StoreUnavailableError)
            and error.reason == errors.StoreUnavailableError.reason
        )
        return isinstance(error, CancelledError) or (self._stopping and of_store)

    def _log_call(self, method: str, code: str, id_: str, started: float, **more: object) -> None:
        milliseconds = round((time.perf_counter() - started) * 1000, 3)
        self._log.info("rpc", method=method, code=code, request_id=id_, **more, ms=milliseconds)
