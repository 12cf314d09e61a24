"""A local verifier applies the events of a stream one by one, including rare ones."""

import asyncio
import queue
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from identity_client import (
    IdentityError,
    LocalVerifier,
    NotFreshError,
    Rejected,
    SilentError,
    UnavailableError,
    async_local,
    local,
)
from identity_client.backoff import Backoff
from identity_client.trust import GenerationRaised, KeySet, PublicKey, TokenDenied, WatchEvent
from identity_service.domain.ids import EVERYONE, PrincipalId
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.log import Generation
from identity_service.jose import keys
from identity_service.jose.access_tokens import AccessTokenCodec
from tests.patience import PATIENCE, until
from tests.unit.jose.conftest import Ring, access_token

pytestmark = pytest.mark.usefixtures("both_kinds")


_MADE = keys.generate("ES256")
_KEY = PublicKey(
    key_id=_MADE.key_id,
    algorithm="ES256",
    state="SIGNING",
    jwk=_MADE.public_jwk or "",
    activate_time=datetime(2026, 1, 1, tzinfo=UTC),
)
KEYS = WatchEvent(keys=KeySet(jwks="", keys=(_KEY,), max_age=timedelta(minutes=1)))
RESTARTED = WatchEvent(restarted=True)


def heartbeat(revision: str = "", ago: float = 0.0) -> WatchEvent:
    sent = datetime.now(UTC) - timedelta(seconds=ago)
    return WatchEvent(revision=revision, time=sent, staleness=timedelta(0))


class Script:
    """A service that sends the events of a test; None ends the stream."""

    def __init__(self) -> None:
        self.messages: queue.Queue[WatchEvent | None] = queue.Queue()
        self.resumed: list[str] = []
        self.max_silence: list[timedelta] = []
        self.failure: IdentityError = UnavailableError("it ended", code=grpc.StatusCode.UNAVAILABLE)

    def put(self, *messages: WatchEvent | None) -> None:
        for message in messages:
            self.messages.put(message)

    def watch(self, resume_after: str = "", *, max_silence: timedelta) -> Iterator[WatchEvent]:
        self.resumed.append(resume_after)
        self.max_silence.append(max_silence)
        while (message := self.messages.get()) is not None:
            yield message
        raise self.failure

    def close(self) -> None:
        self.put(None)


class AsyncScript:
    """An asyncio service that sends the events of a test; None ends the stream."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def watch(self, resume_after: str = "", *, max_silence: timedelta) -> AsyncGenerator[WatchEvent]:
        events = self._script.watch(resume_after, max_silence=max_silence)
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event

    async def close(self) -> None:
        self._script.close()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(local, "TrustClient", lambda *_, **__: script)
    monkeypatch.setattr(async_local, "AsyncTrustClient", lambda *_, **__: AsyncScript(script))
    return script


@pytest.fixture
def verifier(script: Script) -> Iterator[LocalVerifier]:
    with LocalVerifier(issuer="i") as verifier:
        yield verifier


def judges(verifier: LocalVerifier) -> bool:
    try:
        verifier.verify("a.b.c", any_audience=True)
    except NotFreshError:
        return False
    return True


def test_a_heartbeat_in_the_middle_of_a_snapshot_confirms_nothing(
    script: Script, verifier: LocalVerifier
) -> None:
    script.put(RESTARTED, KEYS, heartbeat())
    with pytest.raises(NotFreshError, match="the revocations are not completely known yet"):
        verifier.wait_ready(timedelta(milliseconds=100))

    script.put(WatchEvent(revision="e.1"), heartbeat("e.1"))
    verifier.wait_ready()
    assert judges(verifier)


def test_the_time_to_wait_may_be_a_number_of_seconds(script: Script, verifier: LocalVerifier) -> None:
    with pytest.raises(NotFreshError):
        verifier.wait_ready(0.01)

    script.put(KEYS, heartbeat("e.1"))
    verifier.wait_ready(PATIENCE)
    assert judges(verifier)


def test_during_a_second_snapshot_nothing_is_confirmed(script: Script, verifier: LocalVerifier) -> None:
    script.put(KEYS, heartbeat("e.1"))
    verifier.wait_ready()
    before = verifier._fresh.until

    script.put(RESTARTED, heartbeat(), KEYS, heartbeat())
    until(script.messages.empty, PATIENCE)
    until(lambda: not verifier._state.complete, PATIENCE)
    assert verifier._fresh.until == before
    assert not judges(verifier), "what was confirmed before does not last either"
    with pytest.raises(NotFreshError, match="the revocations are not completely known yet"):
        verifier.wait_ready(timedelta(0))
    script.put(heartbeat("f.1"))
    until(lambda: verifier._fresh.until > before, PATIENCE)


def test_a_snapshot_of_a_service_with_another_clock_is_replaced(
    script: Script, verifier: LocalVerifier
) -> None:
    """A service whose clock is ahead leaves out denials as expired; a client that resumed would lack them."""
    script.put(RESTARTED, KEYS, heartbeat("e.7", ago=-3600), None)
    until(lambda: len(script.resumed) == 2, PATIENCE)
    assert script.resumed == ["", ""]

    script.put(RESTARTED, KEYS, heartbeat("e.8"), None)
    until(lambda: len(script.resumed) == 3, PATIENCE)
    assert script.resumed[-1] == "e.8"


def test_a_second_snapshot_is_complete_once_its_revision_comes(
    script: Script, verifier: LocalVerifier
) -> None:
    """The known facts stay, and the next stream resumes at the revision of the snapshot."""
    denied = TokenDenied(token_id="t1", deny_until=datetime(2100, 1, 1, tzinfo=UTC))
    script.put(KEYS, WatchEvent(revocations=(denied,)), heartbeat("e.7.AbC-_xyz012"), None)
    until(lambda: script.resumed == ["", "e.7.AbC-_xyz012"], PATIENCE)

    script.put(RESTARTED, KEYS)
    until(lambda: not judges(verifier), PATIENCE)
    script.put(
        WatchEvent(revocations=(GenerationRaised(principal="*", number=1, link="l"),), revision="e.9.l-_")
    )
    until(lambda: judges(verifier), PATIENCE)
    script.put(None)

    until(lambda: script.resumed[2:] == ["e.9.l-_"], PATIENCE)
    assert "t1" in verifier._state.denied
    assert verifier._state.generations == {"*": (1, "l")}


def test_a_stream_with_a_backlog_is_left_and_resumed(script: Script, verifier: LocalVerifier) -> None:
    script.put(KEYS, heartbeat("e.7"))
    verifier.wait_ready()
    before = verifier._fresh.until

    script.put(heartbeat("e.8", ago=4))
    until(lambda: script.resumed == ["", "e.8"], PATIENCE)
    assert verifier._fresh.until == before

    script.put(heartbeat("e.9"))
    until(lambda: verifier._fresh.until > before, PATIENCE)


def test_a_stream_that_ends_is_resumed_at_its_last_revision(script: Script, verifier: LocalVerifier) -> None:
    script.put(KEYS, heartbeat("e.3"), None)

    until(lambda: script.resumed == ["", "e.3"], PATIENCE)
    assert judges(verifier), "what was confirmed lasts"


def test_an_event_after_closing_makes_no_token_verifiable(script: Script, verifier: LocalVerifier) -> None:
    script.put(KEYS, heartbeat("e.1"))
    verifier.wait_ready()
    verifier.close()

    verifier._apply(heartbeat("e.2"))

    assert not judges(verifier)


def test_only_a_heartbeat_makes_the_pauses_short_again(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a service that ends each stream after one message would be called ten times a second."""
    resets: list[None] = []
    monkeypatch.setattr(Backoff, "reset", lambda _: resets.append(None))
    with LocalVerifier(issuer="i"):
        script.put(RESTARTED, KEYS, WatchEvent(revision="e.1"), None)
        until(lambda: script.resumed == ["", "e.1"], PATIENCE)
        assert resets == []

        script.put(heartbeat("e.1"), None)
        until(lambda: len(script.resumed) == 3, PATIENCE)
        assert resets == [None]


def test_after_a_silent_stream_the_next_one_may_be_silent_for_twice_as_long(script: Script) -> None:
    """A first limit of half of `max_staleness` is too short for a service that sends few heartbeats."""
    script.failure = SilentError("nothing", code=grpc.StatusCode.UNAVAILABLE)
    with LocalVerifier(issuer="i", max_staleness=timedelta(seconds=8)):
        script.put(None, None)
        until(lambda: len(script.resumed) == 3, PATIENCE)
        script.failure = UnavailableError("it ended", code=grpc.StatusCode.UNAVAILABLE)
        script.put(None)
        until(lambda: len(script.resumed) == 4, PATIENCE)

    assert [limit.total_seconds() for limit in script.max_silence] == [4, 8, 8, 4]


def issued(**generations: str) -> str:
    """Return a token with these generations, signed by the key that the script publishes."""
    now = datetime.now(UTC).replace(microsecond=0)
    token = access_token(
        issuer="i",
        issue_time=now,
        expire_time=now + timedelta(minutes=5),
        generations={
            PrincipalId(p.replace("everyone", EVERYONE)): Generation.parse(g) for p, g in generations.items()
        },
    )
    return AccessTokenCodec(Ring((_MADE,)), IssuerNames("i")).sign(token)


def judged(verifier: LocalVerifier, token: str) -> str:
    try:
        outcome = verifier.verify(token, any_audience=True)
    except NotFreshError as error:
        return str(error)
    return f"{outcome.reason}: {outcome.detail}" if isinstance(outcome, Rejected) else ""


def raised(number: int, link: str) -> GenerationRaised:
    return GenerationRaised(principal=EVERYONE, number=number, link=link)


def test_a_token_with_a_newer_generation_is_not_judged_until_that_arrives(
    script: Script, verifier: LocalVerifier
) -> None:
    script.put(KEYS, heartbeat("e.1"))
    verifier.wait_ready()
    token = issued(everyone="1.a")
    assert "a generation that is not known here yet" in judged(verifier, token)

    script.put(WatchEvent(revocations=(raised(1, "a"),), revision="e.2"), heartbeat("e.2"))
    until(lambda: judged(verifier, token) == "", PATIENCE)


@pytest.mark.parametrize("known", [None, raised(1, "b")])
def test_a_token_of_a_lost_history_is_revoked_once_the_service_has_confirmed_its_own(
    script: Script, verifier: LocalVerifier, known: GenerationRaised | None
) -> None:
    script.put(KEYS, WatchEvent(revocations=(known,) if known else ()), heartbeat("e.1"))
    verifier.wait_ready()
    token = issued(everyone="2.a")
    assert "a generation that is not known here yet" in judged(verifier, token)

    def is_revoked() -> bool:
        script.put(heartbeat("e.1"))
        return (
            judged(verifier, token) == "REVOKED: the token was issued in a history of the store that was lost"
        )

    until(is_revoked, PATIENCE)


def test_listeners_are_called_after_a_revocation_has_taken_effect(
    script: Script, verifier: LocalVerifier
) -> None:
    script.put(KEYS, heartbeat("e.1"))
    verifier.wait_ready()
    token = issued()
    assert judged(verifier, token) == ""
    seen: queue.Queue[tuple[object, str]] = queue.Queue()

    def fail(_: object) -> None:
        raise ValueError("a bug of the program")

    verifier.on_revoked(fail)
    remove = verifier.on_revoked(lambda revocations: seen.put((revocations, judged(verifier, token))))
    denied = TokenDenied(token_id=verifier.names(token).token_id, deny_until=datetime.now(UTC))
    script.put(WatchEvent(revocations=(denied,), revision="e.2"))
    assert seen.get(timeout=PATIENCE) == ((denied,), "REVOKED: the token was revoked")

    remove()
    script.put(WatchEvent(revocations=(denied,), revision="e.3"))
    until(lambda: verifier._state.revision == "e.3", PATIENCE)
    assert seen.empty()


def test_a_known_revocation_ends_a_token_while_nothing_can_be_verified(
    script: Script, verifier: LocalVerifier
) -> None:
    script.put(KEYS, heartbeat("e.1"))
    verifier.wait_ready()
    token = issued()
    assert judged(verifier, token) == ""
    assert verifier.why_ended(token) is None

    script.put(RESTARTED, WatchEvent(revocations=(raised(1, "a"),)))
    until(lambda: verifier.why_ended(token) is not None, PATIENCE)
    ended = verifier.why_ended(token)
    assert ended is not None
    assert ended.reason == "REVOKED"
    assert "not completely known" in judged(verifier, token)


def test_a_change_of_the_keys_is_announced_and_ends_their_tokens(
    script: Script, verifier: LocalVerifier
) -> None:
    script.put(KEYS, heartbeat("e.1"))
    verifier.wait_ready()
    token = issued()
    assert judged(verifier, token) == ""
    ends: queue.Queue[Rejected | None] = queue.Queue()
    verifier.on_keys_changed(lambda: ends.put(verifier.why_ended(token)))
    other = keys.generate("ES256")
    replacement = replace(_KEY, key_id=other.key_id, jwk=other.public_jwk or "")
    script.put(WatchEvent(keys=KeySet(jwks="", keys=(replacement,), max_age=timedelta(minutes=1))))
    ended = ends.get(timeout=PATIENCE)
    assert ended is not None
    assert ended.reason == "UNKNOWN_KEY"


def test_a_token_has_the_names_of_all_that_can_revoke_it(script: Script, verifier: LocalVerifier) -> None:
    script.put(KEYS, WatchEvent(revocations=(raised(1, "a"),)), heartbeat("e.1"))
    verifier.wait_ready()
    names = verifier.names(issued(everyone="1.a"))
    assert {"*", f"*key:{_MADE.key_id}"} < names.principals
    assert names.token_id
    with pytest.raises(ValueError, match="three parts"):
        verifier.names("no token")


def test_a_program_learns_when_tokens_can_be_verified_no_more_and_again(
    script: Script, verifier: LocalVerifier
) -> None:
    states: queue.Queue[bool] = queue.Queue()
    verifier.on_state(states.put)
    script.put(KEYS, heartbeat("e.1"), heartbeat("e.1"))
    assert states.get(timeout=PATIENCE) is True
    script.put(RESTARTED)
    assert states.get(timeout=PATIENCE) is False
    script.put(WatchEvent(revision="e.1"), heartbeat("e.1"))
    assert states.get(timeout=PATIENCE) is True
    verifier.close()
    assert states.get(timeout=PATIENCE) is False
    assert states.empty()


def test_a_state_that_grew_old_is_noticed_when_its_stream_ends(script: Script) -> None:
    states: queue.Queue[bool] = queue.Queue()
    with LocalVerifier(issuer="i", max_staleness=timedelta(milliseconds=200)) as verifier:
        verifier.on_state(states.put)
        script.put(KEYS, heartbeat("e.1"))
        assert states.get(timeout=PATIENCE) is True
        until(lambda: not verifier._is_fresh(), PATIENCE)
        script.put(None)
        assert states.get(timeout=PATIENCE) is False
