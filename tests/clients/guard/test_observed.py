"""A guard notifies the program of its decisions: calls admitted, refused, and ended with their token."""

import queue
from datetime import timedelta
from typing import Any

import pytest

from identity_client import IdentityClient, LocalVerifier
from identity_client.policy import ASK
from tests.clients.guard.conftest import Start, stale_policy
from tests.clients.guard.refusals import bearer, refusal
from tests.clients.guard.site import Site, make_stale
from tests.patience import PATIENCE

MINUTE = timedelta(minutes=1)


class Counted:
    """Keeps the notifications of a guard."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def __call__(self, event: str, reason: str) -> None:
        self.events.put((event, reason))

    def next(self) -> tuple[str, str]:
        return self.events.get(timeout=PATIENCE)


def test_calls_are_counted_as_they_are_admitted_refused_and_ended(
    start: Start, site: Site, verifier: LocalVerifier
) -> None:
    counted, tokens = Counted(), site.sign_in()
    with start(verifier, observe=counted) as client:
        client.call("Get", bearer(tokens.access_token))
        assert counted.next() == ("admitted", "")
        refusal(client.call, "Get", ())
        assert counted.next() == ("refused", "CALLER_UNAUTHENTICATED")
        refusal(client.call, "/unknown.v1.Service/Get", ())
        assert counted.next() == ("refused", "METHOD_NOT_ALLOWED")

        stream: Any = client.stub("Blocked")(b"", metadata=bearer(tokens.access_token), timeout=PATIENCE)
        next(stream)
        assert counted.next() == ("admitted", "")
        site.revoke(lambda to: to.revoke_session(tokens.session_id))
        assert counted.next() == ("ended", "TOKEN_REVOKED")
        refusal(next, stream)
    assert counted.events.empty()


def test_calls_about_which_the_service_is_asked_are_counted_once(
    start: Start, site: Site, own: LocalVerifier, asking: IdentityClient
) -> None:
    counted, tokens = Counted(), site.sign_in()
    make_stale(own, MINUTE)
    with start(own, stale_policy(ASK), ask=asking, observe=counted) as client:
        client.call("Get", bearer(tokens.access_token))
        assert counted.next() == ("admitted", "")
        site.revoke(lambda to: to.revoke_token_id(tokens.token_id))
        refusal(client.call, "Get", bearer(tokens.access_token))
        assert counted.next() == ("refused", "TOKEN_REVOKED")
        asking.close()
        refusal(client.call, "Get", bearer(tokens.access_token))
        assert counted.next() == ("refused", "REPLICA_STALE")
    assert counted.events.empty()


def test_a_program_that_fails_to_count_still_serves(
    start: Start, site: Site, verifier: LocalVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str, __: str) -> None:
        raise ValueError("no such counter")

    with start(verifier, observe=fail) as client:
        assert client.call("Get", bearer(site.token()))
    assert "no such counter" in caplog.text
