"""Sources of tokens whose sign-ins tests count, hold up and let fail, and whose clock tests move."""

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
    """Signs a client in at the real service: counts, and can be held up or fail."""

    def __init__(self, world: World) -> None:
        self._target = world.target
        self._credential = world.new_client("caller").credential.client_secret
        self.count = 0
        self.errors: list[BaseException] = []
        """Raised by the next sign-ins, one each."""
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
        """Let no sign-in end before the block does."""
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
    """Return a source that signs in so, by this clock."""
    tokens = AccessTokens(sign_ins.connect, sign_ins, wait=PATIENCE)
    tokens._renewer._clock = clock
    return tokens


def async_source(sign_ins: SignIns, clock: Clock) -> AsyncAccessTokens:
    """The same for asyncio."""
    tokens = AsyncAccessTokens(sign_ins.connect, sign_ins, wait=PATIENCE)
    tokens._renewer._clock = clock
    return tokens


def standing_still(tokens: S) -> S:
    """Have no time pass for a source, so that the intervals that it keeps never end."""
    tokens._renewer._clock = lambda: 0.0
    return tokens
