"""Administration of sessions: who may list and end which sessions, and which of them are live."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from identity_service.domain.credential_errors import SessionEndedError
from identity_service.domain.errors import CallerScopeMissingError, NotFoundError, StoreUnavailableError
from identity_service.domain.ids import Link, PrincipalId, SessionId
from identity_service.domain.log import Generation
from identity_service.domain.origin import Origin
from identity_service.domain.sessions import Session
from identity_service.services.admin import sessions as module
from identity_service.services.admin.sessions import AllBut, Ended, OfClient, OfSubject, OneSession
from identity_service.services.revoke import BySession
from identity_service.services.token_maker import TokenSet
from tests.unit.services.use_case_site import CALLER, UseCaseSite, before, unreachable

PORTAL = PrincipalId("portal")


class People:
    """Two users with sessions, and an administrator."""

    def __init__(self, site: UseCaseSite) -> None:
        self.site, self.sessions = site, site.use.sessions
        site.new_app()
        self.ana, self.bob = site.new_user("ana"), site.new_user("bob")

    def sign_in(self, username: str = "ana", count: int = 1) -> list[TokenSet]:
        """Sign a user in `count` times, one second apart; return the tokens, the newest first."""
        made = []
        for _ in range(count):
            self.site.pass_time(seconds=1)
            made.append(self.site.sign_in(credential=self.site.password(username=username)))
        return made[::-1]

    def listed(self, owner: OfSubject | OfClient, origin: Origin = CALLER) -> list[SessionId]:
        found, _ = self.sessions.list(owner, origin)
        return [session.session_id for session in found]


@pytest.fixture
def people(site: UseCaseSite) -> People:
    return People(site)


def caller(actor: PrincipalId) -> Origin:
    """Return the origin of a call by a principal that is not an administrator."""
    return Origin(peer="192.0.2.9:1", actor=actor)


def ids(*tokens: TokenSet) -> list[SessionId | None]:
    return [each.session_id for each in tokens]


def test_a_user_lists_its_own_sessions_and_an_administrator_those_of_all(people: People) -> None:
    of_ana, of_bob = people.sign_in(count=2), people.sign_in("bob")

    for own in (OfSubject(), OfSubject(subject=people.ana)):
        assert people.listed(own, caller(people.ana)) == ids(*of_ana)
    assert people.listed(OfSubject(subject=people.ana)) == ids(*of_ana)
    assert people.listed(OfClient(client_id=PORTAL)) == ids(*of_bob, *of_ana)
    for client in (OfSubject(), OfSubject(subject=PORTAL)):
        assert people.sessions.list(client, CALLER) == ((), False), "a client has no sessions of its own"


@pytest.mark.parametrize(
    "ask",
    [
        lambda people: people.listed(OfSubject(subject=people.bob), caller(people.ana)),
        lambda people: people.listed(OfSubject(subject=people.ana), caller(people.bob)),
        lambda people: people.listed(OfClient(client_id=PORTAL), caller(people.ana)),
        lambda people: people.listed(OfClient(client_id=PORTAL), caller(PORTAL)),
        lambda people: people.sessions.revoke(
            AllBut(owner=OfSubject(subject=people.bob)), caller(people.ana)
        ),
    ],
)
def test_the_sessions_of_others_are_for_administrators(
    people: People, ask: Callable[[People], object]
) -> None:
    (of_bob,) = people.sign_in("bob")

    with pytest.raises(CallerScopeMissingError, match=r"identity\.admin"):
        ask(people)

    assert people.site.reason(of_bob) == ""


def test_a_list_comes_in_pages_and_tells_whether_more_follow(people: People) -> None:
    newest, *older = ids(*people.sign_in(count=3))
    of_ana = OfSubject(subject=people.ana)

    def page(before: str = "", limit: int = 100) -> tuple[list[SessionId], bool]:
        found, more = people.sessions.list(of_ana, CALLER, before=before, limit=limit)
        return [session.session_id for session in found], more

    assert page(limit=1) == ([newest], True)
    assert page(newest or "", 1) == (older[:1], True)
    assert page(newest or "", 2) == (older, False)
    assert page(older[-1] or "") == ([], False)


# Which sessions are live


def end_it(people: People, session: Session) -> None:
    people.site.revoke(BySession(session_id=session.session_id))


def deny_it_here(people: People, session: Session) -> None:
    people.site.replica.revocations.denylist.add(session.session_id, session.expire_time)


def raise_its_user_here(people: People, session: Session) -> None:
    people.site.replica.revocations.raise_to(session.subject, Generation(number=1, link=Link("a")))


def let_it_expire(people: People, session: Session) -> None:
    people.site.clock.advance(timedelta(days=30) - (people.site.clock.now() - session.auth_time))


@pytest.mark.parametrize("happens", [end_it, deny_it_here, raise_its_user_here, let_it_expire])
def test_a_session_that_is_over_is_listed_no_more(
    people: People, happens: Callable[[People, Session], object]
) -> None:
    (of_ana,) = people.sign_in()
    (of_bob,) = people.sign_in("bob")

    happens(people, people.site.session(of_ana))

    assert people.listed(OfClient(client_id=PORTAL)) == ids(of_bob)


@pytest.mark.parametrize(("left", "live"), [(0, False), (1, True)])
def test_a_session_is_over_by_the_clock_of_this_process_although_the_store_still_lists_it(
    people: People, left: int, live: bool
) -> None:
    """The store's clock may be behind the clock of the process by less than the leeway."""
    (of_ana,) = people.sign_in()
    session = people.site.session(of_ana)
    found = replace(session, expire_time=people.site.clock.now() + timedelta(seconds=left))
    people.site.store.sessions.list_of = (  # type: ignore[method-assign]
        lambda owner, *, before="", limit=100: [] if before else [found]
    )

    assert people.listed(OfSubject(subject=people.ana)) == (ids(of_ana) if live else [])


def test_sessions_that_only_this_process_knows_to_be_over_do_not_end_a_list(people: People) -> None:
    """A page that has only such sessions would be empty, and would look like the end of the list."""
    newest, second, *older = people.sign_in(count=4)
    for tokens in (newest, second):
        deny_it_here(people, people.site.session(tokens))

    found, more = people.sessions.list(OfSubject(subject=people.ana), CALLER, limit=2)

    assert ([session.session_id for session in found], more) == (ids(*older), False)


# Ending sessions


def test_a_user_ends_one_of_its_sessions(people: People) -> None:
    newest, oldest = people.sign_in(count=2)
    assert oldest.session_id is not None
    origin = caller(people.ana)

    ended = people.sessions.revoke(OneSession(session_id=oldest.session_id), origin, reason="lost phone")

    site = people.site
    assert ended == Ended(revision=site.store.log.head().revision, count=1)
    assert (site.reason(oldest), site.reason(newest)) == ("REVOKED", "")
    with pytest.raises(SessionEndedError):
        site.refresh(oldest)
    event = {
        "outcome": "done",
        "actor": people.ana,
        "target": oldest.session_id,
        "subject": people.ana,
        "peer": origin.peer,
        "reason": "lost phone",
    }
    assert site.audited("session_revoked") == site.stored("session_revoked") == [event]


def test_a_session_that_has_ended_is_not_counted_again(people: People) -> None:
    (of_ana,) = people.sign_in()
    assert of_ana.session_id is not None
    target = OneSession(session_id=of_ana.session_id)

    counts = [people.sessions.revoke(target, CALLER).count for _ in range(2)]

    assert counts == [1, 0]


def test_a_session_of_another_user_is_answered_like_one_that_does_not_exist(people: People) -> None:
    (of_ana,), (of_bob,) = people.sign_in("ana"), people.sign_in("bob")
    unknown = SessionId("unknown")

    for session_id, asking in [
        (of_bob.session_id, people.ana),
        (of_ana.session_id, people.bob),
        (unknown, people.ana),
    ]:
        assert session_id is not None
        with pytest.raises(NotFoundError, match=f"^{session_id}: there is no such session$"):
            people.sessions.revoke(OneSession(session_id=session_id), caller(asking))

    assert people.site.reason(of_ana) == people.site.reason(of_bob) == ""


@pytest.mark.parametrize(("kept", "survivors"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("by", ["the user", "an administrator"])
def test_all_sessions_of_a_user_are_ended_but_one(
    people: People, kept: bool, survivors: int, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)  # so that they come in several pages
    mine, *others = people.sign_in(count=5)
    (of_bob,) = people.sign_in("bob")
    keep = mine.session_id if kept else None
    itself = by == "the user"
    target = AllBut(owner=OfSubject(subject=None if itself else people.ana), kept=keep)

    ended = people.sessions.revoke(target, caller(people.ana) if itself else CALLER)

    site = people.site
    assert ended == Ended(revision=site.store.log.head().revision, count=5 - survivors)
    assert {site.reason(tokens) for tokens in others} == {"REVOKED"}
    assert (site.reason(mine), site.reason(of_bob)) == ("" if kept else "REVOKED", "")


def test_ending_all_sessions_of_a_user_without_any_changes_nothing(people: People) -> None:
    known = people.site.replica.revision

    ended = people.sessions.revoke(AllBut(owner=OfSubject(subject=people.ana)), CALLER)
    of_client = people.sessions.revoke(AllBut(owner=OfSubject(subject=PORTAL)), CALLER)

    assert ended == of_client == Ended(revision=known, count=0)


def test_the_sessions_through_a_client_are_not_ended_as_if_they_were_its_own(people: People) -> None:
    (of_ana,) = people.sign_in()

    people.sessions.revoke(AllBut(owner=OfSubject()), caller(PORTAL))

    assert people.site.reason(of_ana) == ""


def test_a_call_that_the_store_interrupts_can_be_repeated(people: People) -> None:
    made = people.sign_in(count=3)
    target = AllBut(owner=OfSubject(subject=people.ana))
    before(people.site.store.facts, "end_session", lambda: None, unreachable)

    with pytest.raises(StoreUnavailableError):
        people.sessions.revoke(target, CALLER)

    assert [people.site.reason(tokens) for tokens in made] == ["REVOKED", "REVOKED", ""]
    assert people.sessions.revoke(target, CALLER).count >= 1
    assert {people.site.reason(tokens) for tokens in made} == {"REVOKED"}
