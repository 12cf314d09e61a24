"""Verifies tokens locally in an asyncio program, with the keys and revocations that the service streams.

from identity_client import AsyncLocalVerifier, Verified

async with AsyncLocalVerifier("127.0.0.1:50051", issuer="https://identity.example") as verifier:
    await verifier.wait_ready()
    outcome = verifier.verify(token, audiences=["api"], required_scopes=["read"])
    if isinstance(outcome, Verified):
        ...

A task follows `TrustService.Watch`. `verify` is not a coroutine, since it only reads memory.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any, Self

from identity_client.async_renewal import AsyncAccessTokens
from identity_client.async_trust import AsyncTrustClient
from identity_client.backoff import Backoff
from identity_client.closing import AsyncClosing
from identity_client.decryption import DecryptionKey
from identity_client.environment import Environment
from identity_client.errors import SilentError
from identity_client.local import verifying_options
from identity_client.options import ClientOptions
from identity_client.trust_follower import seconds_of
from identity_client.verifier_core import VerifierCore


class AsyncLocalVerifier(VerifierCore, AsyncClosing):
    """A `LocalVerifier` that follows the service in a task of the event loop in which it is made.

    A loop that is blocked for longer than `max_staleness` reads no heartbeats, and `verify` raises
    NotFreshError for a moment. It may be used as an asynchronous context manager, which closes it.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        issuer: str | Collection[str],
        options: ClientOptions | None = None,
        decryption_keys: Iterable[DecryptionKey] = (),
        max_staleness: timedelta = timedelta(seconds=5),
        leeway: timedelta = timedelta(seconds=10),
        cache_bytes: int = 16 * 2**20,
    ) -> None:
        """Start to follow the service in a task; the arguments are those of `LocalVerifier`.

        Raises RuntimeError if no event loop runs, and the errors of `LocalVerifier`.
        """
        super().__init__(
            issuer=issuer,
            decryption_keys=decryption_keys,
            max_staleness=max_staleness,
            leeway=leeway,
            cache_bytes=cache_bytes,
        )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no event loop runs: make an AsyncLocalVerifier in a coroutine, or at the level of a module "
                "a LocalVerifier, which asyncio may use too"
            ) from None
        self._client = AsyncTrustClient(target, options=options)
        self._tokens: AsyncAccessTokens | None = None
        """The source of the verifier's own token, which is closed with it."""
        self._max_silence = max_staleness / 2
        self._heartbeat = asyncio.Event()
        self._task = loop.create_task(self._follow(), name="identity-watch")

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, allow_plaintext: bool = False, **options: Any
    ) -> Self:
        """Start to follow the service that environment variables name; see `LocalVerifier.from_env`."""
        found = Environment.read(environ)
        connection, tokens = verifying_options(found, AsyncAccessTokens, allow_plaintext=allow_plaintext)
        verifier = cls(found.target, issuer=found.issuers, options=connection, **options)
        verifier._tokens = tokens
        return verifier

    async def close(self) -> None:
        """Stop following the service; afterwards `verify` raises NotFreshError."""
        self._end()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._client.close()
        if self._tokens is not None:
            await self._tokens.close()

    async def wait_ready(self, timeout: timedelta | float = timedelta(seconds=10)) -> None:
        """Wait until tokens can be verified. Raises NotFreshError after `timeout`; a number is in seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds_of(timeout)):
                while not self._is_fresh():
                    self._heartbeat.clear()
                    await self._heartbeat.wait()
        self._require_fresh()

    def _confirmed(self) -> None:
        self._heartbeat.set()

    async def _follow(self) -> None:
        """Follow Watch until the task is cancelled; resume at the last revision after each end."""
        backoff, max_silence = Backoff(), self._max_silence
        while True:
            failure: Exception | None = None
            try:
                async with aclosing(self._client.watch(self._begin(), max_silence=max_silence)) as events:
                    async for event in events:
                        self._apply(event)
                        if event.time is not None:  # a heartbeat is sent after all that was missed
                            backoff.reset()
            except Exception as error:  # noqa: BLE001  # `_note` decides what each means
                failure = self._note(error)
            # More time for a service that sends few heartbeats, or sends a snapshot to many watchers.
            max_silence = self._max_silence * (2 if isinstance(failure, SilentError) else 1)
            await asyncio.sleep(backoff.next_pause(failure))
