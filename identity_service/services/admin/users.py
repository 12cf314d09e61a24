"""Administration of users. The table of methods decides which callers may use it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import new_user_id
from identity_service.domain.log import RecordKind, Revision
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import Clock, PasswordHasher
from identity_service.domain.principals import User, is_name_as_password, normalize_username
from identity_service.domain.records import Versioned
from identity_service.domain.secret import Secret
from identity_service.services.admin.checks import check_user
from identity_service.services.admin.records import Changed, Records, require_another, updated

USER_FIELDS: Final = ("username", "display_name", "audiences", "scopes", "disabled")
"""The fields that `Users.update` can change; the password is changed by `Users.set_password`."""

MIN_PASSWORD_CHARS: Final = 8
MAX_PASSWORD_CHARS: Final = 1024

_LIKE_THE_NAME: Final = (
    "must not be the username, once or several times, whatever its case, spaces and invisible characters; "
    "choose another"
)
_NOT_A_NEW_NAME: Final = "must not be the user's password; choose another name, or set another password first"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to create; `Users.create` generates the id."""

    username: str
    password: Secret | None = None
    """The password; None or empty = the user cannot sign in with a password."""
    display_name: str = ""
    audiences: Collection[str] = ()
    scopes: Collection[str] = ()
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Users:
    """The use cases that create, find, change and delete users, and set their passwords."""

    records: Records
    hasher: PasswordHasher
    is_common: Callable[[Secret], bool]
    """A function that returns whether a password is one of those that attackers try first."""
    clock: Clock

    def create(self, new: NewUser, *, origin: Origin = NOWHERE) -> Versioned[User]:
        """Create a user and return the record.

        Raises InvalidRequestError; AlreadyExistsError if the username is in use; ServerBusyError if too many
        passwords are being hashed.
        """
        user = User(
            user_id=new_user_id(),
            username=new.username,
            display_name=new.display_name,
            audiences=frozenset(new.audiences),
            scopes=frozenset(new.scopes),
            disabled=new.disabled,
            create_time=self.clock.now(),
        )
        check_user(user)
        if new.password:
            user = replace(user, password_hash=self._hash(new.password, user.username))
        event = AuditEvent.of(AuditType.USER_CREATED, origin, target=user.user_id)
        return self.records.create(user, event)

    def get(self, user_id: str) -> Versioned[User]:
        """Return the user of this id. Raises NotFoundError."""
        return self.records.get(User, user_id)

    def find(self, username: str) -> Versioned[User]:
        """Return the user of this username. Raises NotFoundError."""
        return self.records.find_user(username)

    def list(self, *, after: str = "", limit: int = 100) -> Sequence[Versioned[User]]:
        """Return up to `limit` users in the order of their ids, beginning after the id `after`."""
        return self.records.list_of(User, after=after, limit=limit)

    def update(
        self,
        wanted: User,
        fields: Collection[str],
        *,
        expected: Revision | None = None,
        origin: Origin = NOWHERE,
    ) -> Versioned[User]:
        """Copy the values of `fields`, a subset of USER_FIELDS, from `wanted` to the user of its id.

        Disabling a user revokes all sessions and tokens of the user in the same atomic step. A new username
        is compared with the password by its hash, which takes as long as one or two sign-ins.

        Raises:
            InvalidRequestError: a value is not valid, or the caller would disable itself.
            NotFoundError: there is no such user.
            StaleEtagError: the user is not at the revision `expected`, or changes too often.
            AlreadyExistsError: the username is in use.
            ServerBusyError: too many passwords are being hashed.
        """
        values = {name: getattr(wanted, name) for name in fields}

        def decide(user: User) -> Changed[User]:
            changed = replace(user, **values)
            check_user(changed, before=user)
            if changed.username != user.username:
                self._check_rename(changed)
            return updated(AuditType.USER_UPDATED, user, changed, fields, origin, path="user")

        return self.records.change(User, wanted.user_id, decide, expected=expected)

    def delete(self, user_id: str, *, expected: Revision | None = None, origin: Origin = NOWHERE) -> Revision:
        """Delete a user, and revoke everything that was issued to the user.

        Raises InvalidRequestError if the caller would delete itself, NotFoundError, StaleEtagError.
        """
        require_another(user_id, origin, "user_id")
        event = AuditEvent.of(AuditType.USER_DELETED, origin, target=user_id)
        return self.records.delete(RecordKind.USER, user_id, event, expected=expected)

    def set_password(
        self, user_id: str, password: Secret, *, revoke: bool = True, origin: Origin = NOWHERE
    ) -> Versioned[User]:
        """Set a password; unless `revoke` is False, all sessions and tokens of the user are revoked.

        Raises InvalidRequestError, NotFoundError, ServerBusyError.
        """
        user = self.get(user_id).record  # read before the slow hash, since the user may not exist
        hashed = self._hash(password, user.username)
        event = AuditEvent.of(AuditType.PASSWORD_SET, origin, target=user_id, revoked=revoke)

        def decide(user: User) -> Changed[User]:
            _refuse_name(password, user.username)  # checked again, since the username may have changed
            return Changed(record=replace(user, password_hash=hashed), event=event, revoke=revoke)

        return self.records.change(User, user_id, decide, expected=None)

    def _hash(self, password: Secret, username: str) -> str:
        """Check a password as NIST SP 800-63B says (length and a list of common ones), and hash it.

        Raises InvalidRequestError, ServerBusyError.
        """
        if not MIN_PASSWORD_CHARS <= len(password.reveal()) <= MAX_PASSWORD_CHARS:
            raise InvalidRequestError.of("password", "must have 8 to 1,024 characters")
        _refuse_name(password, username)
        if self.is_common(password):
            raise InvalidRequestError.of("password", "is one of the commonly used ones; choose another")
        return self.hasher.hash(password)

    def _check_rename(self, user: User) -> None:
        """Refuse the new username if it, or its normalised form, is the password.

        The password is known by its hash only, so it is compared with these two spellings alone; each
        comparison takes as long as a sign-in. Raises InvalidRequestError, ServerBusyError.
        """
        if user.password_hash is None:
            return
        for spelling in dict.fromkeys((user.username, normalize_username(user.username))):
            if self.hasher.verify(user.password_hash, Secret(spelling)):
                raise InvalidRequestError.of("user.username", _NOT_A_NEW_NAME)


def _refuse_name(password: Secret, username: str) -> None:
    if is_name_as_password(password.reveal(), username):
        raise InvalidRequestError.of("password", _LIKE_THE_NAME)
