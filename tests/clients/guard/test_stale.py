"""A guard whose verifier is stale refuses calls, asks the service, or admits them, as configured."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from identity_client import IdentityClient, LocalVerifier, NotFreshError, Verified
from identity_client.grpc import Guard
from identity_client.policy import ALLOW_FOR, ASK, REFUSE, OnStale, Policy, PolicyError
from tests.clients.guard.conftest import Start, stale_policy
from tests.clients.guard.refusals import Refused, bearer, refusal
from tests.clients.guard.site import AUDIENCE, READ, Site, make_stale
from tests.patience import PATIENCE, until
from tests.ports import reserve_port

STALE = Refused("UNAVAILABLE", "REPLICA_STALE")
MINUTE = timedelta(minutes=1)
HOUR = ALLOW_FOR(60 * MINUTE)


@pytest.mark.parametrize("method", ["Get", "Total", "Follow", "Chat"])
def test_calls_are_unavailable_and_never_unauthenticated_unless_the_policy_says_otherwise(
    start: Start, site: Site, own: LocalVerifier, method: str
) -> None:
    token = site.token()
    make_stale(own, MINUTE)

    with start(own, stale_policy(REFUSE)) as client:
        for metadata in (bearer(token), bearer("a.b.c")):
            found = refusal(client.call, method, metadata)
            assert found == STALE
            assert found.retry
        assert client.guard.stale_calls == {"refused": 2}
        assert refusal(client.call, method, ()).code == "UNAUTHENTICATED"


def test_the_log_says_once_why_the_calls_are_refused(
    start: Start, site: Site, own: LocalVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    token = site.token()
    make_stale(own, MINUTE)
    own._trouble = ConnectionError("no route to the service")

    with start(own, stale_policy(REFUSE)) as client:
        assert [refusal(client.call, "Get", bearer(token)) for _ in range(2)] == [STALE] * 2

    (message,) = [record.message for record in caplog.records if record.name == "identity_client.guard"]
    assert "no route to the service" in message
    assert token not in message


def test_a_token_is_accepted_for_the_time_that_the_policy_allows(
    start: Start, site: Site, own: LocalVerifier
) -> None:
    token = site.token()
    make_stale(own, MINUTE)

    with start(own, stale_policy(ALLOW_FOR(2 * MINUTE))) as client:
        assert client.call("Get", bearer(token))
        assert client.call("Chat", bearer(token), b"?")
        assert client.guard.stale_calls == {"allowed": 2}
    with start(own, stale_policy(ALLOW_FOR(0.9 * MINUTE))) as client:
        assert refusal(client.call, "Get", bearer(token)) == STALE


def test_a_token_that_is_known_to_be_revoked_or_expired_is_refused_however_stale_the_verifier_is(
    start: Start, site: Site, own: LocalVerifier
) -> None:
    revoked, short = site.sign_in(), site.token(lifetime=timedelta(seconds=1))
    site.revoke(lambda to: to.revoke_token_id(revoked.token_id))
    until(lambda: own.why_ended(revoked.access_token) is not None)
    until(lambda: own.why_ended(short) is not None)
    make_stale(own, MINUTE)

    with start(own, stale_policy(HOUR)) as client:
        for token, reason in ((revoked.access_token, "REVOKED"), (short, "EXPIRED")):
            found = refusal(client.call, "Get", bearer(token))
            assert found == Refused("UNAUTHENTICATED", f"TOKEN_{reason}", reason)


@pytest.mark.parametrize("on_stale", [REFUSE, HOUR])
def test_nothing_is_accepted_while_the_revocations_are_incomplete(
    start: Start, site: Site, own: LocalVerifier, on_stale: OnStale
) -> None:
    token = site.token()
    make_stale(own, MINUTE)
    own._state.start_over()

    with start(own, stale_policy(on_stale)) as client:
        assert refusal(client.call, "Get", bearer(token)) == STALE


def test_a_closed_verifier_accepts_nothing_however_long_the_policy_allows(site: Site) -> None:
    token = site.token()
    with site.verifier() as verifier:
        pass

    with pytest.raises(NotFreshError):
        verifier.verify(token, any_audience=True, max_extra_staleness=timedelta(days=9))


def test_staleness_ends_no_open_call(start: Start, site: Site, own: LocalVerifier) -> None:
    with start(own) as client:
        stream = client.stub("Blocked")(b"", metadata=bearer(site.token()), timeout=PATIENCE)
        next(stream)

        make_stale(own, MINUTE)
        own._keys_changed.call()

        assert refusal(client.call, "Get", bearer(site.token())) == STALE
        assert stream.is_active()
        stream.cancel()


@pytest.mark.parametrize("method", ["Get", "Total", "Follow", "Chat"])
def test_the_service_is_asked_if_the_policy_says_so(
    start: Start, site: Site, own: LocalVerifier, asking: IdentityClient, method: str
) -> None:
    tokens, other = site.sign_in(), site.token(audiences=["other"])
    make_stale(own, MINUTE)

    with start(own, stale_policy(ASK), ask=asking) as client:
        assert client.call(method, bearer(tokens.access_token), b"1")
        assert refusal(client.call, method, bearer(other)).rejection == "WRONG_AUDIENCE"
        site.revoke(lambda to: to.revoke_token_id(tokens.token_id))
        found = refusal(client.call, method, bearer(tokens.access_token))
        assert found == Refused("UNAUTHENTICATED", "TOKEN_REVOKED", "REVOKED")
        assert client.guard.stale_calls == {"asked": 3}


def test_a_token_that_is_known_to_be_revoked_is_refused_whatever_the_service_would_answer(
    start: Start, site: Site, own: LocalVerifier
) -> None:
    """The replica that the guard asks may not have read the revocation yet."""
    tokens = site.sign_in()
    late = own.verify(tokens.access_token, audiences=[AUDIENCE])
    assert isinstance(late, Verified)
    site.revoke(lambda to: to.revoke_token_id(tokens.token_id))
    until(lambda: own.why_ended(tokens.access_token) is not None)
    make_stale(own, MINUTE)
    service = Counting(late)
    service.go.set()

    with start(own, stale_policy(ASK), ask=service) as client:
        found = refusal(client.call, "Get", bearer(tokens.access_token))

    assert found == Refused("UNAUTHENTICATED", "TOKEN_REVOKED", "REVOKED")


class Awaitable:
    """A client for asyncio, whose methods return awaitables."""

    def verify(self, token: str, **_: Any) -> object:
        return object()


def test_an_object_that_is_no_answer_of_the_service_admits_no_call(
    start: Start, own: LocalVerifier, site: Site
) -> None:
    """For example, an `AsyncIdentityClient` in a guard for threads returns a coroutine."""
    make_stale(own, MINUTE)

    with start(own, stale_policy(ASK), ask=Awaitable()) as client:
        for method in ("Get", "Chat"):
            assert refusal(client.call, method, bearer(site.token())).code == "INTERNAL"
        assert client.reports.entered.empty()


def test_a_service_that_does_not_answer_makes_the_call_unavailable(
    start: Start, site: Site, own: LocalVerifier, asking: IdentityClient
) -> None:
    make_stale(own, MINUTE)
    asking.close()

    with start(own, stale_policy(ASK), ask=asking) as client:
        assert refusal(client.call, "Get", bearer(site.token())) == STALE


def test_a_stream_needs_a_verifier_that_could_end_it(
    start: Start, site: Site, asking: IdentityClient
) -> None:
    """Before its first message from the service, a verifier has neither keys nor revocations."""
    with (
        LocalVerifier(f"127.0.0.1:{reserve_port()}", issuer="identity-service") as unready,
        start(unready, stale_policy(ASK), ask=asking) as client,
    ):
        assert client.call("Get", bearer(site.token()))
        for method in ("Total", "Follow", "Chat"):
            assert refusal(client.call, method, bearer(site.token())) == STALE


class Counting:
    """A client of the service that counts calls, and answers when the test allows it."""

    def __init__(self, answer: Verified) -> None:
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()
        self.count = 0
        self._answer = answer

    def verify(self, token: str, **_: Any) -> Verified:
        self.count += 1
        self.asked.release()
        assert self.go.wait(PATIENCE)
        return self._answer


def test_calls_with_the_same_token_share_one_question(start: Start, site: Site, own: LocalVerifier) -> None:
    token = site.token()
    answer = own.verify(token, audiences=[AUDIENCE])
    assert isinstance(answer, Verified)
    make_stale(own, MINUTE)
    service = Counting(answer)

    with start(own, stale_policy(ASK), ask=service) as client:
        calls = [client.stub("Get").future(b"", metadata=bearer(token), timeout=PATIENCE) for _ in range(5)]
        assert service.asked.acquire(timeout=PATIENCE)
        until(lambda: client.guard.stale_calls == {"asked": 5})
        service.go.set()

        assert {call.result() for call in calls} == {answer.subject.encode()}
        assert service.count == 1


def test_a_policy_that_asks_needs_a_client(own: LocalVerifier) -> None:
    policy = Policy(AUDIENCE, {"/a.S/*": [READ]}, on_stale=ASK)

    with pytest.raises(PolicyError, match="ask=IdentityClient"):
        Guard(own, policy)
