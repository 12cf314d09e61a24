"""Guarded services that call one another, on behalf of their callers and with their own tokens."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import httpx
import pytest

from identity_client import (
    AccessTokens,
    AsyncAccessTokens,
    AsyncLocalVerifier,
    AsyncTokenExchange,
    LocalVerifier,
    Rejected,
    TokenExchange,
)
from identity_client.asgi import GuardMiddleware, HttpPolicy
from identity_client.grpc import Guard, Policy, aio, caller, secure_channel
from identity_client.http import HttpxAuth
from identity_service.domain.ids import KeyId
from tests.clients.echo import ONE, SERVICE, stub
from tests.patience import PATIENCE, until
from tests.rpc.keys import signed_with
from tests.rpc.shop import ORDERS_API, STOCK_API, Shop
from tests.rpc.world import World

Handler = Callable[[bytes, grpc.ServicerContext], bytes]


@pytest.fixture
def shop(service: World) -> Shop:
    return Shop(service)


@pytest.fixture
def own(shop: Shop) -> Iterator[AccessTokens]:
    """The source of tokens of the service `orders`, which calls `stock`."""
    named = shop.orders.credential.client_secret
    with AccessTokens.by_secret(
        named.client_id, named.client_secret, target=shop.world.target, audience=STOCK_API
    ) as tokens:
        yield tokens


@pytest.fixture
def verifier(service: World) -> Iterator[LocalVerifier]:
    with LocalVerifier(service.target, issuer=service.settings.issuer) as verifier:
        verifier.wait_ready()
        yield verifier


def handlers(handler: Any) -> grpc.GenericRpcHandler:
    method: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(handler)
    return grpc.method_handlers_generic_handler(SERVICE, {"One": method})


def policy(audience: str) -> Policy:
    return Policy(audience, {f"/{SERVICE}/*": ["read"]})


@contextmanager
def serving(verifier: LocalVerifier, audience: str, handler: Handler) -> Iterator[str]:
    """Run a guarded service with threads; yield its target."""
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[Guard(verifier, policy(audience))])
    server.add_generic_rpc_handlers((handlers(handler),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def stock(verifier: LocalVerifier) -> AbstractContextManager[str]:
    """Run the service `stock`, which answers with its caller and the actor that calls for it."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        actors = " ".join(actor.subject for actor in caller().actors)
        return f"{caller().subject} by {actors}".encode()

    return serving(verifier, STOCK_API, answer)


def sign_in(shop: Shop, *names: str) -> dict[str, str]:
    """Return a token of each user, by user id."""
    people = [shop.new_person(name) for name in names]
    return {person.id: shop.sign_in(person).access_token for person in people}


def call(channel: grpc.Channel, token: str) -> bytes:
    answer: bytes = stub(channel, ONE)(
        b"", timeout=PATIENCE, metadata=(("authorization", f"Bearer {token}"),)
    )
    return answer


def test_a_guarded_service_acts_for_each_of_its_callers(
    shop: Shop, own: AccessTokens, verifier: LocalVerifier
) -> None:
    users = sign_in(shop, "bo", "cy")
    with (
        stock(verifier) as behind,
        secure_channel(behind, TokenExchange(own, audience=STOCK_API)) as to_stock,
        serving(
            verifier, ORDERS_API, lambda request, _: bytes(stub(to_stock, ONE)(request, timeout=PATIENCE))
        ) as target,
        grpc.insecure_channel(target) as channel,
        ThreadPoolExecutor(8) as pool,
    ):
        running = [(user, pool.submit(call, channel, users[user])) for user in [*users] * 10]

        for user, answer in running:
            assert answer.result(PATIENCE) == f"{user} by orders".encode()


def test_a_guarded_service_of_asyncio_acts_for_each_of_its_callers(
    shop: Shop, own: AccessTokens, verifier: LocalVerifier
) -> None:
    users = sign_in(shop, "bo", "cy")

    async def work(behind: str) -> None:
        exchange = AsyncTokenExchange(own, audience=STOCK_API)
        async with (
            AsyncLocalVerifier(shop.world.target, issuer=shop.world.settings.issuer) as checker,
            aio.secure_channel(behind, exchange) as to_stock,
        ):
            await checker.wait_ready()

            async def answer(request: bytes, context: Any) -> bytes:
                return bytes(await stub(to_stock, ONE)(request, timeout=PATIENCE))

            server = grpc.aio.server(interceptors=[aio.Guard(checker, policy(ORDERS_API))])
            server.add_generic_rpc_handlers((handlers(answer),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            try:
                await call_all(f"127.0.0.1:{port}")
            finally:
                await server.stop(None)

    async def call_all(target: str) -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            for user in [*users] * 5:
                metadata = (("authorization", f"Bearer {users[user]}"),)
                answers = await asyncio.gather(
                    *(stub(channel, ONE)(b"", timeout=PATIENCE, metadata=metadata) for _ in range(2))
                )
                assert answers == [f"{user} by orders".encode()] * 2

    with stock(verifier) as behind:
        asyncio.run(work(behind))


def test_after_a_key_was_retired_no_call_of_a_guarded_service_fails(
    shop: Shop, own: AccessTokens, verifier: LocalVerifier
) -> None:
    first = own()
    with stock(verifier) as target, secure_channel(target, own) as channel:

        def reserve() -> str:
            answer: bytes = stub(channel, ONE)(b"", timeout=PATIENCE)
            return answer.decode()

        assert reserve() == "orders by "
        shop.world.service._use.rotation.retire(KeyId(signed_with(first)), "leaked")

        while own() == first:
            assert reserve() == "orders by "
        assert reserve() == "orders by "


def test_after_a_revocation_a_request_to_a_guarded_application_is_repeated_with_another_token(
    shop: Shop, verifier: LocalVerifier
) -> None:
    named = shop.orders.credential.client_secret

    async def report(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": caller().token_id.encode()})

    guarded: Any = GuardMiddleware(
        report, verifier=verifier, policy=HttpPolicy(STOCK_API, {"GET /report": ["read"]})
    )

    async def work() -> None:
        async with (
            AsyncAccessTokens.by_secret(
                named.client_id, named.client_secret, target=shop.world.target, audience=STOCK_API
            ) as tokens,
            httpx.AsyncClient(
                auth=HttpxAuth(tokens), transport=httpx.ASGITransport(guarded), base_url="https://stock"
            ) as client,
        ):
            token = await tokens()
            first = (await client.get("/report")).text
            shop.world.revoke(shop.world.admin_token(), token_id=first)
            await asyncio.to_thread(until, lambda: isinstance(verifier.why_ended(token), Rejected))

            answer = await client.get("/report")

            assert answer.status_code == 200
            assert answer.text not in ("", first)

    asyncio.run(work())
