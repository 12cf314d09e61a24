"""Clients of a user's service that call it continuously, one in a thread and one in an event loop.

They record the calls that fail and the longest time between two responses. The module asserts nothing.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from identity_client import AccessTokens, AsyncAccessTokens
from identity_client.environment import Environment
from identity_client.grpc import aio, secure_channel
from tests.clients.guard.reports import name
from tests.clients.guard.site import AUDIENCE
from tests.clients.sources import standing_still
from tests.patience import PATIENCE, until

_LOG = logging.getLogger(__name__)
_PAUSE = 0.005
"""Seconds between two calls, which leave the machine time for the service."""


class Calls:
    """The outcome of the calls of one client. One thread writes it."""

    def __init__(self) -> None:
        self.tokens: AccessTokens | AsyncAccessTokens | None = None
        self.answered = 0
        self.failures: list[str] = []
        self.longest_gap = 0.0
        """The longest time in seconds between two responses."""
        self._last = 0.0

    def note_answer(self) -> None:
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - self._last if self._last else 0.0)
        self._last = now
        self.answered += 1

    def note_failure(self, error: grpc.RpcError) -> None:
        call: Any = error
        self.failures.append(f"{call.code().name}: {call.details()}")

    @property
    def token(self) -> str:
        """The access token that the client uses at present; "" before its first call."""
        found = self.tokens._renewer.tokens if self.tokens is not None else None
        return found.access_token if found is not None else ""

    def log(self) -> None:
        _LOG.info("%d calls were answered, %.3f s apart at most", self.answered, self.longest_gap)

    def await_answers(self, count: int = 10) -> None:
        """Wait until `count` more calls have succeeded, or one has failed."""
        end = self.answered + count
        until(lambda: self.answered >= end or bool(self.failures))


Start = Callable[[Environment, str, threading.Event, Calls], None]


@contextmanager
def calling(start: Start, environment: Environment, target: str) -> Iterator[Calls]:
    """Run a client that calls until the block ends; yield the outcome of its calls."""
    stop, calls = threading.Event(), Calls()
    thread = threading.Thread(target=start, args=(environment, target, stop, calls), daemon=True)
    thread.start()
    try:
        calls.await_answers()
        yield calls
    finally:
        stop.set()
        thread.join(PATIENCE)


def in_thread(environment: Environment, target: str, stop: threading.Event, calls: Calls) -> None:
    """Call with a stub for threads until `stop` is set."""
    with (
        standing_still(AccessTokens.from_env(audience=AUDIENCE, environment=environment)) as tokens,
        secure_channel(target, tokens) as channel,
    ):
        get: Callable[..., bytes] = channel.unary_unary(name("Get"))
        calls.tokens = tokens
        while not stop.wait(_PAUSE):
            try:
                get(b"", timeout=PATIENCE)
            except grpc.RpcError as error:
                calls.note_failure(error)
            else:
                calls.note_answer()


def in_loop(environment: Environment, target: str, stop: threading.Event, calls: Calls) -> None:
    """Call with an asyncio stub until `stop` is set."""

    async def run() -> None:
        async with (
            standing_still(AsyncAccessTokens.from_env(audience=AUDIENCE, environment=environment)) as tokens,
            aio.secure_channel(target, tokens) as channel,
        ):
            get: Callable[..., Awaitable[bytes]] = channel.unary_unary(name("Get"))
            calls.tokens = tokens
            while not stop.is_set():
                try:
                    await get(b"", timeout=PATIENCE)
                except grpc.RpcError as error:
                    calls.note_failure(error)
                else:
                    calls.note_answer()
                await asyncio.sleep(_PAUSE)

    asyncio.run(run())
