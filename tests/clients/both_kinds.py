"""Runs the tests of a module twice: with the clients for threads, and with those for asyncio.

The asyncio clients run in an event loop of a thread of their own, and a test calls them as if they blocked.
A module says `pytestmark = pytest.mark.usefixtures("both_kinds")`; names like `IdentityClient` in it then
stand for one kind after the other. The module asserts nothing.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final

import grpc.aio

import identity_client
from tests.patience import PATIENCE

TWINS: Final = {
    "AdminClient": identity_client.AsyncAdminClient,
    "IdentityClient": identity_client.AsyncIdentityClient,
    "LocalVerifier": identity_client.AsyncLocalVerifier,
    "TrustClient": identity_client.AsyncTrustClient,
}


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="tests-asyncio", daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)


class BlockingClass:
    """A class whose constructor and class methods make objects of an asyncio class in the event loop."""

    def __init__(self, loop: Loop, kind: Callable[..., Any]) -> None:
        self._loop = loop
        self._kind = kind

    def __call__(self, *args: Any, **kwargs: Any) -> "Blocking":
        return Blocking(self._loop, self._kind, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return partial(Blocking, self._loop, getattr(self._kind, name))


class Blocking:
    """An asyncio object whose coroutines and asynchronous iterators a test uses as blocking ones."""

    def __init__(self, loop: Loop, kind: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        async def make() -> Any:
            channel = kwargs.get("channel")
            if channel is not None:  # the test's own, of the other kind
                kwargs["channel"] = grpc.aio.insecure_channel(channel._channel.target().decode())
            return kind(*args, **kwargs)

        self._loop = loop
        self._object = loop.run(make())

    def __enter__(self) -> "Blocking":
        self._loop.run(self._object.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.run(self._object.__aexit__(*error))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._object, name)
        if inspect.isasyncgenfunction(found):
            return lambda *args, **kwargs: self._iterate(found(*args, **kwargs))
        if inspect.iscoroutinefunction(found):
            return lambda *args, **kwargs: self._loop.run(found(*args, **kwargs))
        return found

    def _iterate(self, values: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(values)

        try:
            while True:
                try:
                    value = self._loop.run(following())
                except StopAsyncIteration:
                    return
                yield value
        finally:
            self._loop.run(values.aclose())
