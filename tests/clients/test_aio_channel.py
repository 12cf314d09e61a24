"""AsyncAccessTokens and an asyncio channel, with a service that asks the identity service about tokens."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from identity_client import (
    AsyncAccessTokens,
    AsyncAdminClient,
    ClientOptions,
    UnauthenticatedError,
    UnavailableError,
)
from identity_client.grpc.aio import secure_channel
from identity_client.token_state import INVALIDATIONS
from identity_shared.token_ids import unverified_token_id
from tests.clients.echo import CHAT, MANY, ONE, SUM, Echo, stub
from tests.clients.sources import LIFETIME, Clock, SignIns, async_source
from tests.jwts import PartyKey
from tests.patience import PATIENCE, until
from tests.rpc.world import API, PASSWORD, World
from tests.tls import Certifier

KINDS = (ONE, MANY, SUM, CHAT)


@pytest.fixture
def target(echo: Echo) -> Iterator[str]:
    with echo.serving() as target:
        yield target


@pytest.fixture
def own(sign_ins: SignIns, clock: Clock) -> AsyncAccessTokens:
    """The source of tokens under test."""
    return async_source(sign_ins, clock)


@pytest.fixture
def run(own: AsyncAccessTokens, target: str) -> Callable[..., Any]:
    """Return a function that runs a coroutine with a channel, in a new event loop."""

    async def with_channel(work: Callable[[grpc.aio.Channel], Coroutine[Any, Any, Any]]) -> Any:
        async with own, secure_channel(target, own) as channel:
            return await asyncio.wait_for(work(channel), PATIENCE)

    return lambda work: asyncio.run(with_channel(work))


async def call(channel: grpc.aio.Channel, method: str, **options: Any) -> list[bytes]:
    """Call a method of the service `Echo`; return its response messages."""
    request = iter([b"x"]) if method in (SUM, CHAT) else b"x"
    answer = stub(channel, method)(request, **{"timeout": PATIENCE} | options)
    return [await answer] if method in (ONE, SUM) else [message async for message in answer]


async def eventually(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


class RefusedTokens:
    """A source of a token that every service refuses."""

    def __init__(self) -> None:
        self._token = PartyKey.make().jwt({"jti": "refused"})
        self.given_up = asyncio.Semaphore(0)
        """Released each time the token is given up."""

    async def __call__(self, timeout: float | None = None) -> str:
        return self._token

    def token_id(self, token: str) -> str:
        return unverified_token_id(token)

    def invalidate(self, token: str) -> bool:
        self.given_up.release()
        return True


def revoke(service: World, token: str) -> None:
    service.revoke(service.admin_token(), token_id=unverified_token_id(token))


def test_calls_of_all_four_kinds_carry_the_token(
    run: Callable[..., Any], echo: Echo, own: AsyncAccessTokens
) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        for method in KINDS:
            assert set(await call(channel, method)) == {b"x"}
        assert echo.seen == [await own()] * 4

    run(work)


def test_a_call_that_has_a_token_of_its_own_keeps_it(run: Callable[..., Any], echo: Echo) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        for method in KINDS:
            with pytest.raises(grpc.aio.AioRpcError):
                await call(channel, method, metadata=(("authorization", "Bearer own"),))

    run(work)
    assert echo.seen == ["own"] * 4


def test_a_unary_call_is_repeated_once_with_another_token_after_a_revocation(
    run: Callable[..., Any], echo: Echo, service: World, own: AsyncAccessTokens
) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        first = await own()
        revoke(service, first)
        assert await call(channel, ONE) == [b"x"]
        assert echo.seen == [first, await own()]

    run(work)
    assert echo.runs == 1


def test_if_the_next_token_is_refused_as_well_the_call_fails(own: AsyncAccessTokens) -> None:
    echo = Echo(lambda _: "REVOKED")

    async def work(target: str) -> None:
        async with own, secure_channel(target, own) as channel:
            for _ in range(INVALIDATIONS + 2):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call(channel, ONE)
                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED

    with echo.serving() as target:
        asyncio.run(work(target))
    assert len(echo.seen) == 2 * INVALIDATIONS + 2
    assert len(set(echo.seen)) == 1 + INVALIDATIONS


def test_an_error_from_further_down_names_another_token_and_is_not_repeated(
    run: Callable[..., Any], echo: Echo, service: World
) -> None:
    echo.further_down = service.admin_token()

    async def work(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(channel, ONE)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED

    run(work)
    assert (len(echo.seen), echo.runs) == (1, 1)


@pytest.mark.parametrize("method", [MANY, SUM, CHAT])
def test_a_stream_is_not_repeated_but_the_next_call_has_another_token(
    run: Callable[..., Any], echo: Echo, service: World, own: AsyncAccessTokens, method: str
) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        first = await own()
        revoke(service, first)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, method)
        while await own() == first:
            await asyncio.sleep(0)
        assert set(await call(channel, method)) == {b"x"}

    run(work)
    assert len(echo.seen) == 2


@pytest.mark.parametrize("method", [MANY, SUM, CHAT])
def test_the_token_of_each_refused_stream_is_given_up_whatever_status_grpc_aio_shows(method: str) -> None:
    """grpc.aio sets the status of a call twice if a message could not be sent any more (grpc/grpc#36066).

    That happens to about one call in ten, in another order for each kind of call.
    """
    echo, refused = Echo(lambda _: "REVOKED"), RefusedTokens()

    async def work(target: str) -> None:
        async with secure_channel(target, refused) as channel:
            for _ in range(100):
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(channel, method)
                await asyncio.wait_for(refused.given_up.acquire(), PATIENCE)

    with echo.serving() as target:
        asyncio.run(work(target))


def test_a_cancelled_task_ends_its_call_at_the_service(run: Callable[..., Any], echo: Echo) -> None:
    echo.hold.clear()

    async def work(channel: grpc.aio.Channel) -> None:
        task = asyncio.ensure_future(call(channel, ONE))
        await eventually(lambda: len(echo.seen) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(echo.ended.is_set)

    try:
        run(work)
    finally:
        echo.hold.set()


def test_a_cancelled_task_ends_neither_the_renewal_nor_the_waiting_of_others(
    own: AsyncAccessTokens, sign_ins: SignIns
) -> None:
    async def work() -> None:
        with sign_ins.held():
            tasks = [asyncio.ensure_future(own()) for _ in range(50)]
            await eventually(lambda: sign_ins.count == 1)
            for task in tasks[::2]:
                task.cancel()
            ended = await asyncio.gather(*tasks[::2], return_exceptions=True)
            assert {type(each) for each in ended} == {asyncio.CancelledError}
        assert len(set(await asyncio.gather(*tasks[1::2]))) == 1

    asyncio.run(work())
    assert sign_ins.count == 1


def test_a_stale_token_is_used_at_once_while_it_is_renewed(
    own: AsyncAccessTokens, sign_ins: SignIns, clock: Clock
) -> None:
    async def work() -> None:
        first = await own()
        clock.ahead = 0.9 * LIFETIME
        with sign_ins.held():
            assert await own() == first
            await eventually(lambda: sign_ins.count == 2)
        while await own() == first:
            await asyncio.sleep(0)

    asyncio.run(work())


def test_a_call_with_time_left_gets_a_token_although_some_renewals_fail_and_others_see_why(
    run: Callable[..., Any], own: AsyncAccessTokens, sign_ins: SignIns
) -> None:
    down = UnavailableError("down", code=grpc.StatusCode.UNAVAILABLE)
    refused = UnauthenticatedError("no such client", code=grpc.StatusCode.UNAUTHENTICATED)

    async def work(channel: grpc.aio.Channel) -> None:
        sign_ins.errors = [refused]
        with pytest.raises(
            grpc.aio.AioRpcError, match="no access token for this call: no such client"
        ) as error:
            await call(channel, ONE)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
        own._renewer._state._retry_at = 0.0
        sign_ins.errors = [down] * 3
        assert await call(channel, ONE) == [b"x"]

    run(work)


def test_an_error_that_no_task_waits_for_any_more_is_not_logged_by_asyncio(
    own: AsyncAccessTokens, sign_ins: SignIns, caplog: pytest.LogCaptureFixture
) -> None:
    sign_ins.errors = [UnauthenticatedError("no", code=grpc.StatusCode.UNAUTHENTICATED)]

    async def work() -> None:
        ended = threading.Event()
        with sign_ins.held():
            task = asyncio.ensure_future(own())
            await eventually(lambda: sign_ins.count == 1)
            task.cancel()
            assert own._renewer._renewal is not None
            own._renewer._renewal.add_done_callback(lambda _: ended.set())
        await asyncio.to_thread(ended.wait, PATIENCE)
        await asyncio.sleep(0)

    asyncio.run(work())
    own._renewer._state.error = None  # the error keeps alive what asyncio logs when it is deleted
    gc.collect()
    assert [record.name for record in caplog.records] == ["identity_client.tokens"]


def test_a_call_waits_for_a_token_no_longer_than_its_deadline(
    run: Callable[..., Any], echo: Echo, sign_ins: SignIns
) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        with sign_ins.held(), pytest.raises(grpc.aio.AioRpcError, match="no access token within") as error:
            await call(channel, ONE, timeout=0.05)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    run(work)
    assert echo.seen == []


def test_a_call_of_the_service_waits_for_its_token_no_longer_than_its_own_deadline(
    service: World, own: AsyncAccessTokens, sign_ins: SignIns
) -> None:
    async def work() -> None:
        options = ClientOptions(bearer=own, timeout=timedelta(milliseconds=50))
        async with AsyncAdminClient(service.target, options=options) as admin:
            with sign_ins.held(), pytest.raises(UnavailableError, match=r"no access token within 0\.05 s"):
                await admin.get_client("caller")

    asyncio.run(work())


def test_closing_ends_the_session_and_logging_out_also_forgets_the_tokens(service: World) -> None:
    service.new_user("ana")

    async def work() -> None:
        async with AsyncAccessTokens.by_password(
            "ana", PASSWORD, target=service.target, audience=API
        ) as tokens:
            first = await tokens()
            await tokens.logout()
            assert service.reason(first) == "REVOKED"
            second = await tokens()
            assert service.reason(second) == ""
        assert service.reason(second) == "REVOKED"

    asyncio.run(work())


def test_the_channel_uses_tls_if_it_is_given_an_authority(
    echo: Echo, own: AsyncAccessTokens, certifier: Certifier
) -> None:
    async def work(target: str) -> None:
        async with own, secure_channel(target, own, tls=certifier.options()) as channel:
            assert await call(channel, ONE) == [b"x"]

    with echo.serving(certifier) as target:
        asyncio.run(work(target))
