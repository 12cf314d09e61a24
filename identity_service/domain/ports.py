"""Ports: what the use cases need of the world, named by role. A docstring here is a promise.

Whoever implements one translates its library's exceptions into `domain/errors.py` at that seam.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from identity_service.domain.ids import Epoch, KeyId, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import (
    Appended,
    Change,
    Fact,
    Generation,
    Head,
    LogPage,
    RecordKind,
    Revision,
)
from identity_service.domain.principals import Client, User
from identity_service.domain.revocations import Revocations
from identity_service.domain.secret import Secret
from identity_service.domain.sessions import Session
from identity_service.domain.tokens import AccessToken, Rejected

Record = Client | User | StoredKey
RecordT = TypeVar("RecordT", Client, User, StoredKey)


class Clock(Protocol):
    """Time, injected so that tests can move it."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""


class PasswordHasher(Protocol):
    """Slow on purpose (argon2id). Callers run it where slow work may run."""

    def hash(self, password: Secret) -> str:
        """A PHC string with a fresh salt."""

    def verify(self, phc: str | None, password: Secret) -> bool:
        """Whether the password is right; None takes as long as a real comparison and is False."""


class SigningKey(Protocol):
    """A private key in use; an HSM or KMS can stand behind it."""

    @property
    def key_id(self) -> KeyId: ...

    @property
    def algorithm(self) -> str: ...

    def sign(self, message: bytes) -> bytes:
        """The JWS signature of `message` (RFC 7515)."""


class VerifyingKey(Protocol):
    """A public key (or, for HS256, the shared one) together with the one algorithm that it is for."""

    @property
    def key_id(self) -> KeyId: ...

    @property
    def algorithm(self) -> str: ...

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether the JWS signature is good; never raises for what a stranger can send."""


class KeySource(Protocol):
    """The keys that this process holds open; answers from memory."""

    def signing(self) -> SigningKey:
        """The key that signs now, by schedule. Raises NoSigningKeyError."""

    def verifying(self, key_id: str) -> VerifyingKey | None:
        """The key of this id that tokens may be signed with, or None."""


class KeyVault(Protocol):
    """Makes keys, and opens those that the store keeps sealed under the master key.

    Every `open_…` raises ConfigurationError when the master key is not the one that sealed it.
    """

    def make(self, purpose: KeyPurpose, algorithm: str, now: datetime) -> StoredKey:
        """A fresh random key, sealed, active from `now`. Raises ConfigurationError: unknown algorithm."""

    def open_signing(self, key: StoredKey) -> SigningKey: ...

    def open_verifying(self, key: StoredKey) -> VerifyingKey: ...

    def open_refresh(self, key: StoredKey) -> bytes:
        """The 32 bytes that derive refresh tokens."""


class TokenCodec(Protocol):
    """Access tokens to text and back."""

    def sign(self, token: AccessToken) -> str:
        """The compact JWS. Raises InvalidRequestError (field `claims`) when it would exceed 8 KiB."""

    def read(self, text: str) -> AccessToken | Rejected:
        """Everything that time does not change: form, algorithm, key, signature, type, issuer.

        Never raises for what a stranger can send.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned(Generic[RecordT]):
    """A record as the store has it, and where it was last changed (its etag)."""

    record: RecordT
    revision: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """What a sign-in with a username needs, read in one atomic step."""

    generations: Mapping[PrincipalId, Generation]
    """Of `*`, the user and the client, without the ones that were never raised."""
    user: User | None
    client: Client | None
    time: datetime
    """The store's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A session and everything that may forbid to refresh it, read in one atomic step."""

    session: Session
    version: int
    """Grows with every change of the record."""
    ended: bool
    generations: Mapping[PrincipalId, Generation]
    """Of `*`, the subject and the client, without the ones that were never raised."""
    user: User | None
    client: Client | None
    time: datetime
    """The store's clock; grace windows and the session's end are counted by it."""


class LogListener(Protocol):
    """Who hears what a replica has folded, in the order of the log. It must return at once."""

    def folded(self, revision: Revision, changes: Sequence[tuple[Change, Link]]) -> None:
        """These changes are known now, and with them everything up to `revision`; the link is the entry's."""

    def replaced(self, revision: Revision) -> None:
        """The log was found replaced and is read again from its start; what was known stays known."""


class ChangeLog(Protocol):
    """The log as a replica follows it. Every method raises StoreUnavailableError when it cannot be asked."""

    def head(self) -> Head:
        """The end of the log now. Raises StoreUninitializedError where there is no epoch."""

    def read(self, after: int, limit: int) -> LogPage:
        """Entries after position `after`, oldest first, at most `limit`, with the head of that moment."""

    def wait(self, after: int, timeout: float) -> None:
        """Return when there may be entries after `after`, or after `timeout` seconds. May return early."""

    def beat(self, process: str, retention: timedelta = timedelta(0)) -> Head:
        """Write this process's heartbeat and return the head: a write that the store confirmed.

        The log's retention becomes at least `retention`. Raises NotConfirmedError.
        """

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Every principal that was ever raised; they never expire, so the log need not reach back."""

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch from now on in every write."""

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log this epoch if it still has `found` (None = it has lost its own).

        From then on every entry up to its end may be missing (`Head.floor`). Returns the epoch that it
        has now: this one, or the one that somebody else was first to give.
        """

    def restore(self, facts: Sequence[Fact]) -> int:
        """Append those facts that are absent, each once; returns how many. A generation needs its origin.

        Confirmed as any mutation when it returns. Raises StoreReplacedError under another epoch.
        """

    def trim(self, position: int) -> int:
        """Forget entries up to `position`, if the one there is older than the retention.

        Returns the floor of the log. Never forgets the last entry.
        """


class ReplicaView(Protocol):
    """What this process knows of the change log, in memory: no method but `reach` does any I/O."""

    @property
    def revision(self) -> Revision:
        """The place up to which everything of the log is known."""

    @property
    def revocations(self) -> Revocations:
        """What is denied."""

    @property
    def staleness(self) -> float:
        """Seconds since the last beat was sent that the store confirmed and whose head is known."""

    def require_ready(self) -> None:
        """Raises NotReadyError while the log has not been read to its end for the first time."""

    def require_fresh(self) -> None:
        """Raises NotReadyError, ReplicaStaleError or ClockSkewedError: nothing that may answer is known."""

    def reach(self, revision: Revision | None) -> None:
        """Read the log at least to `revision`, or with None (or another epoch's) to its end.

        Raises RevisionNotReachedError where the log ends before it, ServerBusyError where too many
        callers wait for the store, StoreUnavailableError.
        """

    def learn(self, appended: Appended) -> None:
        """Know at once what this process wrote itself; the revision stays where it is."""

    def owe(self, fact: Fact) -> None:
        """Know this from now on, and send it until the store has it: nobody can say whether it arrived."""


class Journal(Protocol):
    """Where events go that an operator or auditor wants to see: names and fields, never a secret."""

    def record(self, event: str, **fields: object) -> None: ...


class Store(ChangeLog, Protocol):
    """State and change log: every mutation changes both in one atomic step, or neither.

    A mutation names the epoch that this process follows; under another one it changes nothing and
    raises StoreReplacedError. When it returns, the change is durable as the operator chose.
    """

    def initialise(self, epoch: Epoch) -> None:
        """Give a virgin store its epoch, and adopt it. Raises AlreadyExistsError where it has one."""

    # Facts. Repeating one appends nothing and returns the place that holds it.

    def deny_token(self, token_id: TokenId, deny_until: datetime) -> Appended:
        """Deny a token id; a denial is extended, never shortened."""

    def end_session(self, session_id: SessionId, *, deny_until: datetime, end_until: datetime) -> Appended:
        """End a session, known here or not."""

    def raise_generation(
        self, principal: PrincipalId, *, above: int, request_id: str | None, link: Link | None = None
    ) -> Appended:
        """Raise to max(the store's number, `above`) + 1. A `request_id` raises once in 24 hours.

        With `link` the caller says what the entry will be known by; None = a new random one.
        """

    # Records of the directory. An etag is the revision of the last change.

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None: ...

    def list_records(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        """Ordered by id, those with an id greater than `after`."""

    def find_user(self, username: str) -> Versioned[User] | None:
        """By username, compared after `normalize_username`."""

    def create(self, record: Record) -> Appended:
        """Raises AlreadyExistsError where the id (or the username) is taken."""

    def update(self, record: Record, *, expected: Revision, revoke: bool = False, above: int = 0) -> Appended:
        """Replace a record, and with `revoke` raise the principal's generation in the same step.

        Raises NotFoundError, StaleEtagError (changed since `expected`), AlreadyExistsError (username).
        """

    def delete(self, kind: RecordKind, id_: str, *, above: int = 0) -> Appended:
        """Delete a record and raise the principal's generation (not for keys). Raises NotFoundError."""

    # Sign-ins and sessions.

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn: ...

    def create_session(self, session: Session) -> None: ...

    def read_session(self, session_id: SessionId) -> SessionState | None: ...

    def replace_session(self, session: Session, *, expected_version: int) -> bool:
        """Replace the record if its version is still that; False when somebody else was first.

        Not confirmed as other mutations are: a rotation that a failover lost is made again by whoever
        shows the newer token (semantics 2).
        """

    def close(self) -> None:
        """Release everything; wakes a `wait` in progress."""
