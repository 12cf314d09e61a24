"""Sources of tokens for tests: sign-ins are counted, delayed and made to fail, and the clock can be moved."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from identity_client import AccessTokens, AsyncAccessTokens, IdentityClient, TokenSet
from identity_client.renewed_tokens import RenewedTokens
from tests.patience import PATIENCE
from tests.rpc.world import API, World

S = TypeVar("S", bound=RenewedTokens)

LIFETIME = 900.0
"""The lifetime of the service's tokens, in seconds."""


class SignIns:
    """The function with which a source signs in at the real service.

    It counts the sign-ins, and a test can delay them or make them fail.
    """

    def __init__(self, world: World) -> None:
        self._target = world.target
        self._credential = world.new_client("caller").credential.client_secret
        self.count = 0
        self.errors: list[BaseException] = []
        """The errors of the next sign-ins, one for each."""
        self.open = threading.Event()
        self.open.set()

    def __call__(self, identity: IdentityClient) -> TokenSet:
        self.count += 1
        assert self.open.wait(PATIENCE)
        if self.errors:
            raise self.errors.pop(0)
        named = self._credential
        return identity.issue_with_secret(named.client_id, named.client_secret, audiences=[API])

    def connect(self) -> IdentityClient:
        return IdentityClient(self._target)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay all sign-ins until the block ends."""
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()


class Clock:
    """A steady clock that a test moves forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def source(sign_ins: SignIns, clock: Clock) -> AccessTokens:
    """Return a source for threads that signs in by `sign_ins`, with this clock."""
    tokens = AccessTokens(sign_ins.connect, sign_ins, wait=PATIENCE)
    tokens._renewer._clock = clock
    return tokens


def async_source(sign_ins: SignIns, clock: Clock) -> AsyncAccessTokens:
    """Return a source for asyncio that signs in by `sign_ins`, with this clock."""
    tokens = AsyncAccessTokens(sign_ins.connect, sign_ins, wait=PATIENCE)
    tokens._renewer._clock = clock
    return tokens


def standing_still(tokens: S) -> S:
    """Stop the clock of a source, so that no pause or interval of it ever ends."""
    tokens._renewer._clock = lambda: 0.0
    return tokens
