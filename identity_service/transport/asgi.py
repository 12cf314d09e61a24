"""The interface of ASGI, as both APIs use it: its types, and a wait that cancels nothing."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, TypeVar

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
T = TypeVar("T")


async def within(waiting: Awaitable[T], seconds: float | None) -> T:
    """Wait at most `seconds` (None = without a limit) for `waiting`, and return its result.

    Raises TimeoutError, without cancelling `waiting`: the ASGI server may still complete it.
    """
    if seconds is None:
        return await waiting
    future = asyncio.ensure_future(waiting)
    if not (await asyncio.wait({future}, timeout=seconds))[0]:
        future.add_done_callback(discard_outcome)
        raise TimeoutError
    try:
        return future.result()
    finally:
        del future  # otherwise the error and this frame would form a cycle that keeps the request in memory


def discard_outcome(future: "asyncio.Future[Any]") -> None:
    """Read and discard the outcome of a future without a waiter, so that asyncio logs no unhandled error."""
    if not future.cancelled():
        future.exception()
