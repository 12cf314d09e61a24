"""Token exchange by a service that acts for several users in its calls of another service."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from identity_client import (
    AccessTokens,
    AsyncTokenExchange,
    GenerationRaised,
    LocalVerifier,
    Revocation,
    SessionEnded,
    TokenDenied,
    TokenExchange,
    TrustClient,
    UnauthenticatedError,
    UnavailableError,
    WatchEvent,
)
from identity_client.grpc import aio, secure_channel
from identity_client.token_state import Phase
from identity_client.verifier_core import VerifierCore
from identity_shared.strict import decode_base64url, parse_object
from identity_shared.token_ids import unverified_token_id
from identityapi.v1 import token_pb2
from tests.clients.echo import CHAT, MANY, ONE, SUM, Echo, stub
from tests.patience import PATIENCE, until
from tests.rpc.shop import STOCK_API, Shop
from tests.rpc.world import World


@dataclass
class Caller:
    """The caller of a call, as a guard passes it to a handler."""

    token: str


CALLER: ContextVar[Caller] = ContextVar("caller")


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
def stock(shop: Shop) -> Echo:
    return Echo(shop.why)


def claims(token: str) -> dict[str, Any]:
    return parse_object(decode_base64url(token.split(".")[1]))


def sign_in(shop: Shop, *names: str) -> dict[str, str]:
    """Return a token of each user, by user id."""
    people = [shop.new_person(name) for name in names]
    return {person.id: shop.sign_in(person).access_token for person in people}


def count_exchanges(tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    exchange = tokens.exchange

    def counted(subject_token: str, **options: Any) -> Any:
        made.append(subject_token)
        return exchange(subject_token, **options)

    monkeypatch.setattr(tokens, "exchange", counted)
    return made


def test_calls_of_interleaved_users_carry_the_token_of_their_own_user(
    shop: Shop, own: AccessTokens, stock: Echo
) -> None:
    """Both calls have begun, and neither has been sent, at the same moment."""
    users = sign_in(shop, "bo", "cy")
    exchange = TokenExchange(own, audience=STOCK_API, caller=CALLER.get)
    together = threading.Barrier(2)

    def handle(user: str, method: str) -> None:
        CALLER.set(Caller(users[user]))
        request = iter([user.encode()]) if method in (SUM, CHAT) else user.encode()
        together.wait(PATIENCE)
        answer = stub(channel, method)(request, timeout=PATIENCE)
        assert answer if method in (ONE, SUM) else list(answer)

    with (
        stock.serving() as target,
        secure_channel(target, exchange) as channel,
        ThreadPoolExecutor(2) as pool,
    ):
        for method in (ONE, MANY, SUM, CHAT) * 3:
            for running in [pool.submit(handle, user, method) for user in users]:
                running.result(PATIENCE)

    seen = [claims(token) for token in stock.seen]
    assert sorted(each["sub"] for each in seen) == sorted(list(users) * 12)
    assert {each["act"]["sub"] for each in seen} == {"orders"}
    assert len(set(stock.seen)) == 2


def test_tasks_of_interleaved_users_carry_the_token_of_their_own_user(
    shop: Shop, own: AccessTokens, stock: Echo
) -> None:
    users = sign_in(shop, "bo", "cy")
    exchange = AsyncTokenExchange(own, audience=STOCK_API, caller=CALLER.get)

    async def handle(channel: Any, user: str) -> tuple[str, str]:
        CALLER.set(Caller(users[user]))
        await asyncio.sleep(0)
        assert await stub(channel, ONE)(user.encode(), timeout=PATIENCE) == user.encode()
        return user, claims(await exchange())["sub"]

    async def work(target: str) -> None:
        async with aio.secure_channel(target, exchange) as channel:
            for user, subject in await asyncio.gather(*(handle(channel, user) for user in [*users] * 10)):
                assert subject == user

    with stock.serving() as target:
        asyncio.run(work(target))
    assert sorted(claims(token)["sub"] for token in stock.seen) == sorted([*users] * 10)


def test_a_subject_token_is_exchanged_once_for_many_calls_at_the_same_time(
    shop: Shop, own: AccessTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_exchanges(own, monkeypatch)
    subject = Caller(shop.sign_in().access_token)
    exchange = TokenExchange(own, audience=STOCK_API)

    with ThreadPoolExecutor(20) as pool:
        got = set(pool.map(lambda _: exchange.for_(subject), range(40)))

    assert (len(got), len(made)) == (1, 1)
    assert exchange.for_(subject.token) in got


def test_a_forged_token_with_the_id_of_another_one_gets_no_token_of_its_subject(
    shop: Shop, own: AccessTokens
) -> None:
    token = shop.sign_in().access_token
    exchange = TokenExchange(own, audience=STOCK_API)
    exchange.for_(token)
    header, payload, signature = token.split(".")
    forged = f"{header}.{payload}.{signature[:-8]}AAAAAAAA"
    assert unverified_token_id(forged) == unverified_token_id(token)

    with pytest.raises(UnauthenticatedError):
        exchange.for_(forged)


def test_no_more_tokens_are_kept_than_the_size_and_those_used_last_stay(
    shop: Shop, own: AccessTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_exchanges(own, monkeypatch)
    one, two, three = (shop.sign_in().access_token for _ in range(3))
    exchange = TokenExchange(own, audience=STOCK_API, size=2)

    for subject in (one, two, one, three, one, two):
        exchange.for_(subject)

    assert made == [one, two, three, two]


def test_after_a_revocation_the_tokens_for_the_caller_are_dropped(
    shop: Shop, own: AccessTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_exchanges(own, monkeypatch)
    people = [shop.ana, shop.new_person("bo"), shop.new_person("cy")]
    denied, ended, raised = (shop.sign_in(person) for person in people)
    kept = shop.sign_in(shop.new_person("di")).access_token
    subjects = [each.access_token for each in (denied, ended, raised)]
    admin = shop.world.admin_token()
    with LocalVerifier(shop.world.target, issuer=shop.world.settings.issuer) as verifier:
        verifier.wait_ready()
        exchange = TokenExchange(own, audience=STOCK_API, verifier=verifier)
        for subject in (*subjects, kept):
            exchange.for_(subject)

        for left, target in (
            (3, {"token_id": denied.token_id}),
            (2, {"session_id": ended.session_id}),
            (1, {"subject": people[2].id}),
        ):
            shop.world.revoke(admin, **target)
            until(lambda left=left: len(exchange._entries) == left)  # type: ignore[misc]
        for subject in subjects:
            with pytest.raises(UnauthenticatedError, match="subject_token was rejected: REVOKED"):
                exchange.for_(subject)
        exchange.for_(kept)
        exchange.close()
    assert made == [*subjects, kept]


class Followed:
    """A verifier that receives events of the service only when the test says so."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.verifier = VerifierCore(
            issuer=shop.world.settings.issuer,
            decryption_keys=(),
            max_staleness=timedelta(seconds=5),
            leeway=timedelta(seconds=10),
            cache_bytes=2**20,
        )

    def learn_keys(self) -> None:
        with TrustClient(self._shop.world.target) as trust:
            self.verifier._apply(WatchEvent(keys=trust.get_keys()))

    def learn(self, *revocations: Revocation) -> None:
        self.verifier._apply(WatchEvent(revocations=revocations))


@pytest.fixture
def followed(shop: Shop) -> Followed:
    return Followed(shop)


END = datetime.now(UTC) + timedelta(hours=1)


def of_token(tokens: token_pb2.TokenSet) -> Revocation:
    return TokenDenied(token_id=tokens.token_id, deny_until=END)


def of_session(tokens: token_pb2.TokenSet) -> Revocation:
    return SessionEnded(session_id=tokens.session_id, deny_until=END)


def of_subject(tokens: token_pb2.TokenSet) -> Revocation:
    return GenerationRaised(principal=claims(tokens.access_token)["sub"], number=1, link="a")


def of_key(tokens: token_pb2.TokenSet) -> Revocation:
    header = parse_object(decode_base64url(tokens.access_token.split(".")[0]))
    return GenerationRaised(principal=f"*key:{header['kid']}", number=1, link="a")


@pytest.mark.parametrize("revocation", [of_token, of_session, of_subject, of_key])
@pytest.mark.parametrize("order", ["keys last", "keys first", "never the keys"])
def test_a_revocation_drops_tokens_that_are_older_than_the_verifier_s_keys(
    shop: Shop,
    own: AccessTokens,
    followed: Followed,
    revocation: Callable[[token_pb2.TokenSet], Revocation],
    order: str,
) -> None:
    subject = shop.sign_in()
    exchange = TokenExchange(own, audience=STOCK_API, verifier=followed.verifier)
    exchange.for_(subject.access_token)

    if order == "keys first":
        followed.learn_keys()
    followed.learn(revocation(subject))
    if order == "keys last":
        followed.learn_keys()

    assert not exchange._entries


def test_the_tokens_of_others_are_kept_once_the_verifier_knows_the_key(
    shop: Shop, own: AccessTokens, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_exchanges(own, monkeypatch)
    subject, other = shop.sign_in(), shop.sign_in(shop.new_person("bo"))
    exchange = TokenExchange(own, audience=STOCK_API, verifier=followed.verifier)
    exchange.for_(subject.access_token)
    followed.learn_keys()
    exchange.for_(subject.access_token)

    followed.learn(of_token(other))

    exchange.for_(subject.access_token)
    assert made == [subject.access_token]


@pytest.mark.parametrize("revocation", [of_token, of_session, of_subject, of_key])
def test_a_token_that_the_verifier_knows_to_be_revoked_is_not_exchanged(
    shop: Shop,
    own: AccessTokens,
    followed: Followed,
    monkeypatch: pytest.MonkeyPatch,
    revocation: Callable[[token_pb2.TokenSet], Revocation],
) -> None:
    """The process of the identity service that would be asked may not know the revocation yet."""
    made = count_exchanges(own, monkeypatch)
    subject = shop.sign_in()
    exchange = TokenExchange(own, audience=STOCK_API, verifier=followed.verifier)
    followed.learn_keys()
    followed.learn(revocation(subject))

    with pytest.raises(UnauthenticatedError, match="subject_token was rejected: REVOKED"):
        exchange.for_(subject.access_token)

    assert (made, exchange._entries) == ([], {})


def test_tokens_are_dropped_if_the_key_arrives_after_the_revocation_and_the_exchange(
    shop: Shop, own: AccessTokens, followed: Followed
) -> None:
    subject = shop.sign_in()
    exchange = TokenExchange(own, audience=STOCK_API, verifier=followed.verifier)
    followed.learn(of_token(subject))
    exchange.for_(subject.access_token)
    followed.learn_keys()

    with pytest.raises(UnauthenticatedError, match="subject_token was rejected: REVOKED"):
        exchange.for_(subject.access_token)

    assert not exchange._entries


def test_a_token_that_ends_with_its_subject_token_is_not_renewed_before(
    shop: Shop, own: AccessTokens
) -> None:
    subject = shop.sign_in().access_token
    exchange = TokenExchange(own, audience=STOCK_API)
    token = exchange.for_(subject)
    assert claims(token)["exp"] == claims(subject)["exp"]
    (entry,) = exchange._entries.values()
    lifetime = claims(token)["exp"] - claims(token)["iat"]

    later = entry.renewer._clock() + 0.95 * lifetime

    assert entry.renewer._state.phase(later) is Phase.FRESH


def test_a_call_is_repeated_with_another_token_for_the_same_caller(
    shop: Shop, own: AccessTokens, stock: Echo
) -> None:
    CALLER.set(Caller(shop.sign_in().access_token))
    exchange = TokenExchange(own, audience=STOCK_API, caller=CALLER.get)
    first = exchange()
    shop.world.revoke(shop.world.admin_token(), token_id=unverified_token_id(first))

    with stock.serving() as target, secure_channel(target, exchange) as channel:
        assert stub(channel, ONE)(b"x", timeout=PATIENCE) == b"x"

    assert stock.seen == [first, exchange()]


def test_a_call_waits_for_an_exchange_no_longer_than_its_deadline(
    shop: Shop, own: AccessTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(own, "exchange", lambda *_, **__: released.wait(PATIENCE))
    exchange = TokenExchange(own, audience=STOCK_API)

    with pytest.raises(UnavailableError, match="no access token within"):
        exchange.for_(shop.sign_in().access_token, timeout=0.05)
    released.set()


def test_outside_of_a_guarded_call_there_is_no_caller(own: AccessTokens) -> None:
    with pytest.raises(RuntimeError, match="there is no caller here"):
        TokenExchange(own, audience=STOCK_API)()


def test_a_source_without_a_credential_cannot_exchange(tokens: AccessTokens) -> None:
    with pytest.raises(TypeError, match="needs a credential"):
        TokenExchange(tokens, audience=STOCK_API).for_("token")


def test_no_repr_shows_a_token(shop: Shop, own: AccessTokens) -> None:
    token = shop.sign_in().access_token
    exchange = TokenExchange(own, audience=STOCK_API)

    found = exchange.for_(token)

    assert token not in repr(exchange)
    assert found not in repr(exchange)
    assert token not in repr(exchange._entries)
