"""Administration of clients and users. Who may call it is decided at the door.

Disabling or deleting a principal, and setting a password, revoke all that was issued to it in the
same atomic step as the change.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from identity_service.domain.errors import InvalidRequestError, NotFoundError
from identity_service.domain.grants import is_audience, is_known_scope
from identity_service.domain.ids import PrincipalId, is_principal_id, new_user_id
from identity_service.domain.log import RecordKind
from identity_service.domain.ports import Clock, Journal, PasswordHasher
from identity_service.domain.principals import (
    ANY,
    Client,
    Grant,
    User,
    is_username,
    normalize_username,
)
from identity_service.domain.secret import Secret
from identity_service.domain.secrets import new_client_secret, stored
from identity_service.domain.store import Store, Versioned

MIN_PASSWORD_CHARS: Final = 8
MAX_PASSWORD_CHARS: Final = 1024
MAX_OVERLAP: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClient:
    """A client to create."""

    client_id: str
    display_name: str = ""
    grants: Collection[Grant] = (Grant.CLIENT_CREDENTIALS,)
    audiences: Collection[str] = ()
    scopes: Collection[str] = ()
    public: bool = False
    """Without a secret: for programs that cannot keep one."""
    max_lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to create."""

    username: str
    password: Secret
    display_name: str = ""
    audiences: Collection[str] = ()
    scopes: Collection[str] = ()


class Administrator:
    """The use cases of administration."""

    def __init__(self, store: Store, hasher: PasswordHasher, clock: Clock, journal: Journal) -> None:
        self._store = store
        self._hasher = hasher
        self._clock = clock
        self._journal = journal

    # Clients

    def create_client(self, new: NewClient) -> tuple[Client, Secret | None]:
        """Create a client; its secret is returned once and kept only as a hash.

        Raises InvalidRequestError, AlreadyExistsError.
        """
        if not is_principal_id(new.client_id) or new.client_id.startswith("u_"):
            raise InvalidRequestError.of(
                "client_id",
                "must be 1 to 128 letters, digits and ._:@/-, start with a letter or digit, not with u_",
            )
        _check_rights(new.audiences, new.scopes)
        if new.public and Grant.CLIENT_CREDENTIALS in new.grants:
            raise InvalidRequestError.of("grants", "a public client has no credentials of its own")
        secret = None if new.public else new_client_secret()
        client = Client(
            client_id=PrincipalId(new.client_id),
            display_name=new.display_name,
            secrets=(stored(secret),) if secret is not None else (),
            grants=frozenset(new.grants),
            audiences=frozenset(new.audiences),
            scopes=frozenset(new.scopes),
            max_lifetime=new.max_lifetime,
            create_time=self._clock.now(),
        )
        self._store.create(client)
        self._journal.record("client_created", client_id=client.client_id)
        return client, secret

    def client(self, client_id: str) -> Versioned[Client]:
        """Raises NotFoundError."""
        found = self._store.get(Client, client_id)
        if found is None:
            raise NotFoundError("there is no client of this id")
        return found

    def clients(self, *, after: str = "", limit: int = 100) -> Sequence[Versioned[Client]]:
        return self._store.list_records(Client, after=after, limit=limit)

    def rotate_secret(
        self, client_id: str, *, overlap: timedelta = timedelta(0), revoke: bool = False
    ) -> Secret:
        """Give the client a new secret; the old ones work for `overlap` more (at most 30 days).

        With `revoke`, everything issued to the client so far is refused at once.
        """
        if not timedelta(0) <= overlap <= MAX_OVERLAP:
            raise InvalidRequestError.of("overlap", "must be from 0 to 30 days")
        found, now = self.client(client_id), self._clock.now()
        if not found.record.secrets:
            raise InvalidRequestError.of("client_id", "names a public client, which has no secret")
        ending = [
            replace(s, expire_time=min(s.expire_time or now + overlap, now + overlap))
            for s in found.record.secrets
        ]
        secret = new_client_secret()
        kept = tuple(s for s in ending if s.expire_time is not None and s.expire_time > now)
        changed = replace(found.record, secrets=(stored(secret), *kept))
        self._store.update(changed, expected=found.revision, revoke=revoke)
        self._journal.record("client_secret_rotated", client_id=client_id, revoked=revoke)
        return secret

    def disable_client(self, client_id: str, *, disabled: bool = True) -> None:
        """Refuse the client, and all that was issued to it or through it; or let it in again."""
        found = self.client(client_id)
        changed = replace(found.record, disabled=disabled)
        self._store.update(changed, expected=found.revision, revoke=disabled)
        self._journal.record("client_disabled" if disabled else "client_enabled", client_id=client_id)

    def delete_client(self, client_id: str) -> None:
        """Delete the client and revoke all that was issued to it or through it. Raises NotFoundError."""
        self._store.delete(RecordKind.CLIENT, client_id)
        self._journal.record("client_deleted", client_id=client_id)

    # Users

    def create_user(self, new: NewUser) -> User:
        """Raises InvalidRequestError, AlreadyExistsError."""
        if not is_username(new.username):
            raise InvalidRequestError.of("username", "must be 1 to 128 printable characters without spaces")
        _check_rights(new.audiences, new.scopes)
        _check_password(new.password)
        user = User(
            user_id=new_user_id(),
            username=new.username,
            display_name=new.display_name,
            password_hash=self._hasher.hash(new.password),
            audiences=frozenset(new.audiences),
            scopes=frozenset(new.scopes),
            create_time=self._clock.now(),
        )
        self._store.create(user)
        self._journal.record("user_created", user_id=user.user_id)
        return user

    def user(self, name: str) -> Versioned[User]:
        """By username or id. Raises NotFoundError."""
        found = self._store.find_user(normalize_username(name)) or self._store.get(User, name)
        if found is None:
            raise NotFoundError("there is no user of this name or id")
        return found

    def users(self, *, after: str = "", limit: int = 100) -> Sequence[Versioned[User]]:
        return self._store.list_records(User, after=after, limit=limit)

    def set_password(self, name: str, password: Secret, *, revoke: bool = True) -> None:
        """Set a password; unless `revoke` is False, all sessions and tokens of the user end at once."""
        _check_password(password)
        found = self.user(name)
        changed = replace(found.record, password_hash=self._hasher.hash(password))
        self._store.update(changed, expected=found.revision, revoke=revoke)
        self._journal.record("password_set", user_id=changed.user_id, revoked=revoke)

    def disable_user(self, name: str, *, disabled: bool = True) -> None:
        """Refuse the user and all that was issued to them; or let them in again."""
        found = self.user(name)
        changed = replace(found.record, disabled=disabled)
        self._store.update(changed, expected=found.revision, revoke=disabled)
        self._journal.record("user_disabled" if disabled else "user_enabled", user_id=changed.user_id)

    def delete_user(self, name: str) -> None:
        """Delete the user and revoke all that was issued to them. Raises NotFoundError."""
        found = self.user(name)
        self._store.delete(RecordKind.USER, found.record.user_id)
        self._journal.record("user_deleted", user_id=found.record.user_id)


def _check_rights(audiences: Collection[str], scopes: Collection[str]) -> None:
    for audience in audiences:
        if audience != ANY and not is_audience(audience):
            raise InvalidRequestError.of("audiences", "must be 1 to 256 visible ASCII characters each")
    for scope in scopes:
        if scope != ANY and not is_known_scope(scope):
            raise InvalidRequestError.of(
                "scopes", "must be scopes as in RFC 6749 section 3.3; of identity.* only those that exist"
            )


def _check_password(password: Secret) -> None:
    """NIST SP 800-63B: a length, no rules of composition."""
    if not MIN_PASSWORD_CHARS <= len(password.reveal()) <= MAX_PASSWORD_CHARS:
        raise InvalidRequestError.of("password", "must have 8 to 1,024 characters")
