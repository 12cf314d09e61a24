"""The token of each kind of call, with a scripted source; these tests need no part of the server."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from identity_client.grpc import aio, secure_channel
from identity_shared.token_ids import unverified_token_id
from tests.clients.echo import CHAT, MANY, ONE, SUM, Echo, stub
from tests.patience import PATIENCE

KINDS = (ONE, MANY, SUM, CHAT)


def token(token_id: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"jti": token_id}).encode()).rstrip(b"=").decode()
    return f"e30.{claims}.sig"


OLD, NEW = token("old"), token("new")


class Source:
    """A source that returns OLD until it is told that OLD is invalid, and then NEW."""

    def __init__(self) -> None:
        self.current = OLD

    def __call__(self, timeout: float | None = None) -> str:
        return self.current

    def token_id(self, token: str) -> str:
        return unverified_token_id(token)

    def invalidate(self, token: str) -> bool:
        self.current = NEW
        return token == OLD


class AsyncSource(Source):
    async def __call__(self, timeout: float | None = None) -> str:  # type: ignore[override]
        return self.current


@pytest.fixture
def refused() -> set[str]:
    """The tokens that the service refuses."""
    return set()


@pytest.fixture
def echo(refused: set[str]) -> Echo:
    return Echo(lambda token: "REVOKED" if token in refused else "")


@pytest.fixture
def target(echo: Echo) -> Iterator[str]:
    with echo.serving() as target:
        yield target


def call(target: str, method: str) -> list[bytes]:
    """Call through a channel for threads."""
    request = iter([b"x"]) if method in (SUM, CHAT) else b"x"
    with secure_channel(target, Source()) as channel:
        answer = stub(channel, method)(request, timeout=PATIENCE)
        return [answer] if method in (ONE, SUM) else list(answer)


def async_call(target: str, method: str) -> list[bytes]:
    """Call through a channel for asyncio."""

    async def work() -> list[bytes]:
        request = iter([b"x"]) if method in (SUM, CHAT) else b"x"
        async with aio.secure_channel(target, AsyncSource()) as channel:
            answer = stub(channel, method)(request, timeout=PATIENCE)
            return [await answer] if method in (ONE, SUM) else [message async for message in answer]

    return asyncio.run(work())


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("calls", [call, async_call])
def test_a_call_carries_the_token(echo: Echo, target: str, calls: Any, method: str) -> None:
    assert set(calls(target, method)) == {b"x"}
    assert echo.seen == [OLD]


@pytest.mark.parametrize("calls", [call, async_call])
def test_a_unary_call_is_repeated_once_with_the_next_token(
    echo: Echo, target: str, refused: set[str], calls: Any
) -> None:
    refused.add(OLD)
    assert calls(target, ONE) == [b"x"]

    refused.add(NEW)
    with pytest.raises(grpc.RpcError):
        calls(target, ONE)

    assert echo.seen == [OLD, NEW] * 2


@pytest.mark.parametrize("method", [MANY, SUM, CHAT])
@pytest.mark.parametrize("calls", [call, async_call])
def test_a_stream_is_not_repeated(
    echo: Echo, target: str, refused: set[str], calls: Any, method: str
) -> None:
    refused.add(OLD)
    with pytest.raises(grpc.RpcError):
        calls(target, method)
    assert echo.seen == [OLD]
