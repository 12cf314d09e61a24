"""Sign-in with a password: the generations of the token, and the replacement of a weak hash."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from identity_service.adapters.attempt_counter import MemoryAttempts
from identity_service.adapters.clock import SystemClock
from identity_service.domain.attempts import AttemptPolicies
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.ids import EVERYONE, Link, PrincipalId
from identity_service.domain.log import Generation
from identity_service.domain.principals import User, first_party_client
from identity_service.domain.revocations import Revocations
from identity_service.domain.secret import Secret
from identity_service.domain.sessions import SignIn
from identity_service.services.attempts import AttemptGuard
from identity_service.services.audit import LoggedTrail
from identity_service.services.authenticate import AuthenticatedUser, Authenticator, Password
from identity_service.services.directory import Directory
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.event_logs import RecordingEventLog

ALICE = PrincipalId("u_1")
RAISED = Generation(number=7, link=Link("raised"))


class Hasher:
    """Implements PasswordHasher: the hash of `x` is `strong x`; a weak hash is `weak x`."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def hash(self, password: Secret) -> str:
        self.meanwhile()
        return f"strong {password.reveal()}"

    def verify(self, phc: str | None, password: Secret) -> bool:
        return phc is not None and phc.partition(" ")[2] == password.reveal()

    def is_outdated(self, phc: str) -> bool:
        return phc.startswith("weak")


@dataclass
class View:
    """The part of a replica that sign-ins read."""

    revocations: Revocations


class Site:
    """A user with a password, and the use case that checks it; a test can interrupt it after its read."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.hasher, self.revocations = store, Hasher(), Revocations()
        self.meanwhile: list[Callable[[], object]] = []
        store.records.create(first_party_client())
        store.records.create(User(user_id=ALICE, username="alice", password_hash="weak pw"))
        clock, counts = SystemClock(), MemoryAttempts(SystemClock().boot)
        unused: Any = None
        replica: Any = View(self.revocations)
        sessions: Any = self
        self._authenticator = Authenticator(
            sessions,
            store.records,
            replica,
            Directory(store.records),
            self.hasher,
            clock,
            unused,
            guard=AttemptGuard(counts, counts, AttemptPolicies(), clock.monotonic),
            audit=LoggedTrail(RecordingEventLog()),
        )

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        found = self.store.sessions.read_sign_in(username, client_id)
        while self.meanwhile:
            self.meanwhile.pop()()
        return found

    def sign_in(self) -> AuthenticatedUser:
        return self._authenticator.user(Password(username="alice", password=Secret("pw")))

    def change(self, *, revoke: bool = False, **changes: Any) -> None:
        """Change the user as a concurrent call does; the replica knows of it at once."""
        found = self.store.records.get(User, ALICE)
        assert found is not None
        record = replace(found.record, **changes)
        appended = self.store.records.update(record, expected=found.revision, revoke=revoke)
        for change, link in appended.changes:
            self.revocations.apply(change, link)

    @property
    def password_hash(self) -> str | None:
        found = self.store.records.get(User, ALICE)
        assert found is not None
        return found.record.password_hash


@pytest.fixture
def site(store: SqliteStore) -> Site:
    return Site(store)


@pytest.mark.parametrize("principal", [ALICE, EVERYONE, PrincipalId("first-party")])
def test_a_raise_that_the_store_has_lost_counts(site: Site, principal: PrincipalId) -> None:
    site.revocations.raise_to(principal, RAISED)

    assert site.sign_in().generations == {principal: RAISED}


def test_a_raise_just_after_the_read_does_not_pass_with_the_record_of_before(site: Site) -> None:
    """Otherwise a sign-in that was checked against the old record would survive the revocation."""
    site.meanwhile.append(lambda: site.change(disabled=True, revoke=True))

    with pytest.raises(CredentialRefusedError):
        site.sign_in()


def test_a_raise_just_after_the_read_leaves_a_sign_in_that_is_still_right(site: Site) -> None:
    site.meanwhile.append(lambda: site.change(scopes=frozenset({"read"}), revoke=True))

    signed_in = site.sign_in()

    assert signed_in.user.scopes == {"read"}
    assert signed_in.generations == site.store.log.generations()


def test_a_weak_hash_is_replaced_by_a_strong_one(site: Site) -> None:
    site.sign_in()

    assert site.password_hash == "strong pw"


def test_a_password_that_was_changed_meanwhile_stays(site: Site) -> None:
    site.hasher.meanwhile = lambda: site.change(password_hash="weak new")

    site.sign_in()

    assert site.password_hash == "weak new"
