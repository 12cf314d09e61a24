"""Verify of a token with an unknown generation: the generation is new, or from a lost history."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

import pytest

from identity_service.domain.errors import ServerBusyError
from identity_service.domain.ids import EVERYONE, KeyId, Link, PrincipalId, TokenId
from identity_service.domain.log import Generation
from identity_service.domain.tokens import AccessToken, Rejected
from identity_service.services.verify import StoreReadRequiredError, Verifier, VerifyRequest
from tests.fakes.clocks import FakeClock
from tests.fakes.replicas import FakeReplica

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT = PrincipalId("portal")


def generation(number: int, link: str = "a") -> Generation:
    return Generation(number=number, link=Link(link))


class Codec:
    """A codec in which each text stands for the token that the test has put under it."""

    def __init__(self) -> None:
        self.tokens: dict[str, AccessToken] = {}
        self.read_texts: list[str] = []

    def sign(self, token: AccessToken, encrypt_with: object = None) -> str:
        raise NotImplementedError

    def fixed_claims(self, token: AccessToken) -> bytes:
        raise NotImplementedError

    def sign_repeated(self, fixed_claims: bytes, **values: object) -> str:
        raise NotImplementedError

    def is_quick(self, text: str) -> bool:
        return text != "slow"

    def read(self, text: str) -> AccessToken | Rejected:
        self.read_texts.append(text)
        return self.tokens[text]


class Keys:
    """A key source with the key of all tokens."""

    verifying: Final = MappingProxyType({"k": object()})


class Site:
    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.replica = FakeReplica(self.clock)
        self.codec = Codec()
        self.verifier: Verifier[str] = Verifier(
            self.codec,
            Keys(),  # type: ignore[arg-type]
            self.replica,
            self.clock,
            lambda token: token.token_id,
            leeway=timedelta(seconds=10),
            cache_bytes=100_000,
        )
        self.token = AccessToken(
            issuer="i",
            subject=PrincipalId("ana"),
            client_id=CLIENT,
            audiences=("api",),
            scopes=(),
            token_id=TokenId("t"),
            issue_time=NOW,
            expire_time=NOW + timedelta(minutes=5),
            key_id=KeyId("k"),
        )

    def verify(self, text: str = "t", **generations: Generation) -> str:
        """Verify a token; return the reason why it is rejected, or ""."""
        held = {EVERYONE if p == "everyone" else PrincipalId(p): g for p, g in generations.items()}
        self.codec.tokens.setdefault(text, replace(self.token, generations=held))
        outcome = self.verifier.verify(VerifyRequest(token=text, any_audience=True))
        return f"{outcome.reason}: {outcome.detail}" if isinstance(outcome, Rejected) else ""

    def raise_(self, principal: PrincipalId, raised: Generation) -> None:
        self.replica.revocations.raise_to(principal, raised)


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_token_with_a_known_generation_is_verified_without_reading(site: Site) -> None:
    site.raise_(EVERYONE, generation(2))
    assert site.verify(everyone=generation(2)) == ""
    assert (
        site.verify("none of it", portal=Generation(number=0, link=Link("-")), everyone=generation(2)) == ""
    )
    assert site.replica.reads == 0


@pytest.mark.parametrize("known", [0, 1])
def test_a_token_with_a_newer_generation_is_verified_after_reading(site: Site, known: int) -> None:
    if known:
        site.raise_(CLIENT, generation(known, "before"))
    site.replica.on_read = lambda: site.raise_(CLIENT, generation(known + 1))
    assert site.verify(portal=generation(known + 1)) == ""
    assert site.verify(portal=generation(known + 1)) == ""
    assert site.replica.reads == 1


@pytest.mark.parametrize("known", [0, 1])
def test_a_token_of_a_history_that_was_lost_is_revoked(site: Site, known: int) -> None:
    if known:
        site.raise_(EVERYONE, generation(known))
    assert "a history of the store that was lost" in site.verify(everyone=generation(known + 1))
    assert site.replica.reads == 1


def test_entries_read_for_one_generation_may_revoke_the_token_by_another(site: Site) -> None:
    def read() -> None:
        site.raise_(EVERYONE, generation(3))
        site.raise_(CLIENT, generation(1))

    site.replica.on_read = read
    assert "one of the token's principals" in site.verify(everyone=generation(3))


def test_the_log_is_read_no_more_once_a_heartbeat_was_confirmed_since(site: Site) -> None:
    """A client that repeats such a token must not cost a round trip to the store for each call."""
    site.verify(everyone=generation(1))
    site.clock.advance(timedelta(seconds=1))
    site.replica.confirmed = site.clock.monotonic()
    for _ in range(3):
        assert "lost" in site.verify(everyone=generation(1))
    assert site.replica.reads == 1


def test_a_heartbeat_from_before_the_token_proves_nothing_though_the_thread_is_held_up(site: Site) -> None:
    """Time passes between two readings of the clock, while nothing that is confirmed has changed."""
    site.raise_(EVERYONE, generation(1))
    site.clock.advance(timedelta(seconds=0.25))
    site.replica.on_read = lambda: site.raise_(EVERYONE, generation(2, "b"))
    look = site.clock.monotonic

    def slow_look() -> float:
        found = look()
        site.clock.advance(timedelta(seconds=3))
        return found

    site.clock.monotonic = slow_look  # type: ignore[method-assign]
    assert site.verify(everyone=generation(2, "b")) == ""
    assert site.replica.reads == 1


def test_a_caller_that_may_not_wait_gets_an_error_that_the_log_must_be_read(site: Site) -> None:
    site.raise_(EVERYONE, generation(1))
    site.codec.tokens["t"] = replace(site.token, generations={EVERYONE: generation(2, "b")})
    asked = VerifyRequest(token="t", any_audience=True, may_wait=False)
    with pytest.raises(StoreReadRequiredError):
        site.verifier.verify(asked)
    assert site.replica.reads == 0

    site.replica.on_read = lambda: site.raise_(EVERYONE, generation(2, "b"))
    assert site.verify(everyone=generation(2, "b")) == ""
    assert not isinstance(site.verifier.verify(asked), Rejected)
    assert site.replica.reads == 1


def test_a_caller_that_may_not_wait_gets_an_error_for_a_token_that_takes_long_to_verify(site: Site) -> None:
    """An event loop verifies such a token neither as the subject of Verify nor as a caller's own."""
    site.codec.tokens["slow"] = site.token
    asked = VerifyRequest(token="slow", any_audience=True, may_wait=False)
    with pytest.raises(StoreReadRequiredError):
        site.verifier.verify(asked)
    assert site.codec.read_texts == []

    assert site.verify("slow") == ""
    assert not isinstance(site.verifier.verify(asked), Rejected)
    assert site.codec.read_texts == ["slow"]


def test_for_the_tokens_of_a_batch_the_log_is_read_once(site: Site) -> None:
    site.raise_(EVERYONE, generation(1))
    site.clock.advance(timedelta(seconds=0.25))
    site.replica.on_read = lambda: site.raise_(EVERYONE, generation(2, "b"))
    names = {"of today": generation(2, "b"), "lost": generation(3), "lost too": generation(4)}
    requests = [VerifyRequest(token=name, any_audience=True) for name in names]
    for name, held in names.items():
        site.codec.tokens[name] = replace(site.token, generations={EVERYONE: held})

    came = site.verifier.prepare(*requests)
    found = []
    for request in requests:
        site.clock.advance(timedelta(seconds=0.001))
        found.append(isinstance(site.verifier.verify(request, came), Rejected))

    assert found == [False, True, True]
    assert site.replica.reads == 1
    assert site.verify("later", everyone=generation(5)).startswith("REVOKED")
    assert site.replica.reads == 2, "one that came after the log was read may be newer"


def test_while_too_many_calls_wait_for_the_store_such_a_token_is_not_called_revoked(site: Site) -> None:
    def read() -> None:
        raise ServerBusyError("too many calls wait for the store; try again")

    site.replica.on_read = read
    with pytest.raises(ServerBusyError):
        site.verify(everyone=generation(1))


def test_an_answer_is_not_given_again_once_its_history_was_lost(site: Site) -> None:
    site.raise_(EVERYONE, generation(2))
    assert site.verify(everyone=generation(2)) == ""
    known = site.verifier.verify(VerifyRequest(token="t", any_audience=True))
    assert not isinstance(known, Rejected)
    assert site.verifier.is_still_good(known)

    site.replica.revocations.__init__()  # type: ignore[misc]  # a process that knows only the store of now
    site.raise_(EVERYONE, generation(1, "b"))

    assert not site.verifier.is_still_good(known)
    assert "lost" in site.verify(everyone=generation(2))


def test_a_token_takes_as_much_of_the_cache_as_its_claims_take_of_the_memory(site: Site) -> None:
    site.codec.tokens["of many lists"] = replace(site.token, claims={"a": [[] for _ in range(500)]})

    for text in ("t", "of many lists") * 2:
        assert site.verify(text) == ""

    # The second one weighs more than half of the cache, and is not kept.
    assert site.codec.read_texts == ["t", "of many lists", "of many lists"]


def test_the_representation_of_a_request_shows_no_token() -> None:
    assert "a-token" not in repr(VerifyRequest(token="a-token"))
