"""Streaming calls end when their token is revoked or expires, and no others do, on each kind of server."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_client import LocalVerifier, TokenSet
from identity_client.admission import Admission
from identity_client.open_calls import OpenCall
from identity_client.policy import REFUSE, complete
from identity_client.refusal import failed
from identity_client.threaded_calls import ThreadedCalls
from tests.clients.guard.conftest import Start
from tests.clients.guard.refusals import Refused, bearer, refusal
from tests.clients.guard.reports import AsyncReports, Client
from tests.clients.guard.site import AUDIENCE, READ, Site
from tests.patience import PATIENCE, until

REVOKED = Refused("UNAUTHENTICATED", "TOKEN_REVOKED", "REVOKED")
EXPIRED = Refused("UNAUTHENTICATED", "TOKEN_EXPIRED", "EXPIRED")
CANCELLED = Refused("CANCELLED")

WAYS: dict[str, Callable[[Site, TokenSet], None]] = {
    "token id": lambda site, tokens: site.revoke(lambda to: to.revoke_token_id(tokens.token_id)),
    "token": lambda site, tokens: site.revoke(lambda to: to.revoke_token(tokens.access_token)),
    "session": lambda site, tokens: site.revoke(lambda to: to.revoke_session(tokens.session_id)),
}
"""The ways to revoke the tokens of one sign-in, and no others."""
ALL: dict[str, Callable[[Site], None]] = {
    "everything": lambda site: site.revoke(lambda to: to.revoke_everything()),
    "key": Site.retire_key,
}


class Chat:
    """An open call in both directions, to which a test sends one request at a time."""

    def __init__(self, client: Client, token: str) -> None:
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        sent: Iterator[bytes] = iter(self._requests.get, None)
        self.stream = client.stub("Chat")(sent, metadata=bearer(token), timeout=PATIENCE)

    def say(self) -> bytes:
        self._requests.put(b"?")
        answer: bytes = next(self.stream)
        return answer

    def close(self) -> None:
        self._requests.put(None)


def blocked(client: Client, token: str, method: str = "Blocked") -> Any:
    """Start a call; return it once its handler has sent one message and waits."""
    stream = client.stub(method)(b"", metadata=bearer(token), timeout=PATIENCE)
    next(stream)
    return stream


def is_asyncio(client: Client) -> bool:
    return isinstance(client.reports, AsyncReports)


def ended(client: Client, reason: Refused = REVOKED) -> set[Refused]:
    """Return the statuses that a call may end with if its token is revoked while its handler waits.

    The handler's thread has just sent a message, and may not wait yet.
    """
    return {reason} if is_asyncio(client) else {reason, CANCELLED}


@pytest.mark.parametrize("way", WAYS)
def test_a_revocation_ends_the_calls_of_one_sign_in_and_no_others(
    client: Client, site: Site, way: str
) -> None:
    doomed = site.sign_in("ana")
    spared = [site.token("ana"), site.token("bo")]
    dead = Chat(client, doomed.access_token), blocked(client, doomed.access_token)
    live = [(Chat(client, token), blocked(client, token)) for token in spared]
    assert all(chat.say() for chat in (dead[0], *(chat for chat, _ in live)))

    WAYS[way](site, doomed)

    for stream in (dead[0].stream, dead[1]):
        assert refusal(next, stream) in ended(client)
    for chat, stream in live:
        assert chat.say()
        assert stream.is_active()
        stream.cancel()
        chat.close()


def test_the_revocation_of_a_subject_ends_all_calls_of_that_user_and_no_others(
    client: Client, site: Site
) -> None:
    dead = [blocked(client, site.token("ana")) for _ in range(3)]
    live = [Chat(client, site.token("bo")) for _ in range(3)]

    site.revoke(lambda to: to.revoke_subject(site.users["ana"].id))

    for stream in dead:
        assert refusal(next, stream) in ended(client)
    for chat in live:
        assert chat.say() == site.users["bo"].id.encode()
        chat.close()


@pytest.mark.parametrize("way", ALL)
def test_a_revocation_of_everything_ends_all_calls_and_later_tokens_are_good(
    client: Client, site: Site, verifier: LocalVerifier, way: str
) -> None:
    dead = [blocked(client, site.token(name)) for name in ("ana", "bo")]

    ALL[way](site)

    # The published keys without the retired one may arrive before its revocation.
    gone = ended(client, replace(REVOKED, rejection="UNKNOWN_KEY")) if way == "key" else set()
    for stream in dead:
        assert refusal(next, stream) in ended(client) | gone
    token = site.token()
    until(lambda: verifier.why_ended(token) is None)
    later = Chat(client, token)
    assert later.say() == site.users["ana"].id.encode()
    later.close()


def test_a_call_ends_when_its_token_expires(client: Client, site: Site) -> None:
    other = Chat(client, site.token("bo"))
    stream = blocked(client, site.token("ana", lifetime=timedelta(seconds=2)))

    assert refusal(next, stream) in ended(client, EXPIRED)
    assert client.reports.ended.get(timeout=PATIENCE) == (site.users["ana"].id, "TOKEN_EXPIRED")
    assert other.say()
    other.close()


def test_a_handler_learns_that_its_call_has_ended_and_why(client: Client, site: Site) -> None:
    tokens = site.sign_in()
    stream = blocked(client, tokens.access_token)

    WAYS["token id"](site, tokens)

    assert client.reports.ended.get(timeout=PATIENCE) == (site.users["ana"].id, "TOKEN_REVOKED")
    refusal(next, stream)
    assert client.reports.ended.empty()


@pytest.fixture
def patient(client: Client) -> Client:
    """A service whose guard waits for the next message of a handler instead of cancelling the call."""
    if not is_asyncio(client):
        client.guard._calls._grace = PATIENCE
    return client


def test_a_call_that_goes_on_sending_ends_with_the_reason(patient: Client, site: Site) -> None:
    tokens = site.sign_in()
    stream = patient.stub("Follow")(b"1000000000", metadata=bearer(tokens.access_token), timeout=PATIENCE)
    assert next(stream)

    WAYS["token id"](site, tokens)

    assert refusal(list, stream) == REVOKED


def test_a_call_that_goes_on_receiving_ends_with_the_reason(patient: Client, site: Site) -> None:
    tokens = site.sign_in()
    requests = iter(lambda: b"x", None)

    def upload() -> None:
        patient.stub("Total")(requests, metadata=bearer(tokens.access_token), timeout=PATIENCE)

    timer = threading.Timer(0.2, lambda: WAYS["token id"](site, tokens))
    timer.start()
    assert refusal(upload) == REVOKED
    timer.join()


def test_a_handler_that_waits_for_a_request_gets_the_reason_with_it(patient: Client, site: Site) -> None:
    tokens = site.sign_in()
    chat = Chat(patient, tokens.access_token)
    chat.say()

    WAYS["token id"](site, tokens)
    patient.reports.ended.get(timeout=PATIENCE)

    assert refusal(chat.say) == REVOKED


def test_no_message_passes_after_the_end_even_if_the_handler_ignores_it(client: Client, site: Site) -> None:
    tokens = site.sign_in()
    stream = blocked(client, tokens.access_token, "Stubborn")

    WAYS["token id"](site, tokens)

    assert refusal(next, stream) in ended(client)


def test_a_call_without_a_stream_finishes_although_its_token_was_revoked(
    client: Client, site: Site, verifier: LocalVerifier
) -> None:
    tokens = site.sign_in()
    answer = client.stub("Slow").future(b"", metadata=bearer(tokens.access_token), timeout=PATIENCE)
    assert client.reports.entered.get(timeout=PATIENCE) == "Slow"

    WAYS["token id"](site, tokens)
    until(lambda: verifier.why_ended(tokens.access_token) is not None)
    client.reports.release.set()

    assert answer.result() == site.users["ana"].id.encode()


class Slipping:
    """A verifier in which a token is revoked just after it was verified."""

    def __init__(self, verifier: LocalVerifier, revoke: Callable[[], None]) -> None:
        self._verifier = verifier
        self._revoke = revoke

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verifier, name)

    def names(self, token: str) -> Any:
        self._revoke()
        until(lambda: self._verifier.why_ended(token) is not None)
        return self._verifier.names(token)


@pytest.mark.parametrize("method", ["Total", "Follow", "Chat", "Written"])
def test_a_revocation_between_the_check_and_the_start_of_a_call_is_not_missed(
    start: Start, site: Site, verifier: LocalVerifier, method: str
) -> None:
    tokens = site.sign_in()
    slipping = Slipping(verifier, lambda: WAYS["token id"](site, tokens))

    with start(slipping) as client:
        assert refusal(client.call, method, bearer(tokens.access_token)) == REVOKED
        assert client.guard._calls.sizes()[:2] == (0, 0)


def test_a_thousand_calls_leave_nothing_behind(client: Client, site: Site) -> None:
    tokens = [bearer(site.token(name)) for name in ("ana", "bo")]
    for _ in range(250):
        for metadata in tokens:
            client.call("Follow", metadata, b"1")
            client.call("Total", metadata, b"1")
    cancelled = [blocked(client, site.token()) for _ in range(10)]
    for stream in cancelled:
        stream.cancel()

    until(lambda: client.guard._calls.sizes()[:2] == (0, 0))
    assert client.guard._calls.sizes()[2] <= 64


def test_expiry_times_of_many_tokens_are_removed_with_their_calls(
    site: Site, verifier: LocalVerifier
) -> None:
    calls = ThreadedCalls(verifier)
    requirement = complete([READ], AUDIENCE, REFUSE)
    admission = Admission(verifier)
    for _ in range(200):
        caller = admission.admit(requirement, [f"Bearer {site.token()}"], None)
        call = OpenCall(caller, lambda: None)
        calls.add(call)
        calls.remove(call)

    assert calls.sizes()[:2] == (0, 0)
    assert calls.sizes()[2] <= 64


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError])
def test_whatever_a_function_raises_the_other_calls_are_ended(
    site: Site, verifier: LocalVerifier, error: type[BaseException]
) -> None:
    tokens = site.sign_in()
    calls, ended = ThreadedCalls(verifier), threading.Semaphore(0)
    requirement = complete([READ], AUDIENCE, REFUSE)

    def fail(_: str) -> None:
        raise error("in a handler")

    for _ in range(3):
        caller = Admission(verifier).admit(requirement, [f"Bearer {tokens.access_token}"], None)
        calls.add(OpenCall(caller, ended.release))
        caller.on_ended(fail)
    WAYS["token id"](site, tokens)

    for _ in range(3):
        assert ended.acquire(timeout=PATIENCE)


def test_a_function_that_is_added_after_the_end_is_called_at_once(
    site: Site, verifier: LocalVerifier
) -> None:
    caller = Admission(verifier).admit(
        complete([READ], AUDIENCE, REFUSE),
        [f"Bearer {site.token()}"],
        None,
    )
    reasons: list[str] = []
    call = OpenCall(caller, lambda: None)
    caller.on_ended(reasons.append)
    call.refuse(failed())

    caller.on_ended(reasons.append)
    call.refuse(failed())

    assert reasons == ["INTERNAL", "INTERNAL"]
