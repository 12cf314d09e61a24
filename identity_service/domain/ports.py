"""Ports: what the use cases need of the world, named by role. A docstring here is a promise.

Whoever implements one translates its library's exceptions into `domain/errors.py` at that seam.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from identity_service.domain.audit import AuditEvent
from identity_service.domain.ids import KeyId, Link
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import (
    Appended,
    Change,
    Fact,
    Marks,
    Revision,
)
from identity_service.domain.revocations import Revocations
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import AccessToken, Rejected


class Clock(Protocol):
    """Time, injected so that tests can move it."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""

    def unix(self) -> float:
        """The same moment as Unix seconds, for what is asked often."""

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""

    def boot(self) -> float:
        """Seconds on the clock that the wall clock is compared with: it is never set, and time moves both."""


class PasswordHasher(Protocol):
    """Slow on purpose (argon2id). Callers run it where slow work may run."""

    def hash(self, password: Secret) -> str:
        """A PHC string with a fresh salt."""

    def verify(self, phc: str | None, password: Secret) -> bool:
        """Whether the password is right; None takes as long as a real comparison and is False."""

    def is_outdated(self, phc: str) -> bool:
        """Whether `hash` would make a stronger one today."""


class SigningKey(Protocol):
    """A private key in use; an HSM or KMS can stand behind it."""

    @property
    def key_id(self) -> KeyId: ...

    @property
    def algorithm(self) -> str: ...

    def sign(self, message: bytes) -> bytes:
        """The JWS signature of `message` (RFC 7515), within the time that a call may take.

        Raises SignerUnavailableError where a device does not answer or refuses: its adapter translates what
        its library raises, and keeps the device's words out of the message.
        """


class VerifyingKey(Protocol):
    """A public key (or, for HS256, the shared one) together with the one algorithm that it is for."""

    @property
    def key_id(self) -> KeyId: ...

    @property
    def algorithm(self) -> str: ...

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether the JWS signature is good; never raises for what a stranger can send."""


class EncryptingKey(Protocol):
    """The public key of whoever may open a token."""

    @property
    def key_id(self) -> KeyId: ...

    def encrypt(self, token: str) -> str:
        """The compact JWE that holds a signed token (RFC 7519 section 5.2)."""


class DecryptingKey(Protocol):
    """A private key that opens what was encrypted to this service; an HSM or KMS can stand behind it."""

    def decrypt(self, text: str) -> str | None:
        """The signed token in a compact JWE, or None; never raises for what a stranger can send."""


class EncryptionKeyReader(Protocol):
    """Opens the public keys that clients have registered."""

    def open_encryption_key(self, jwk: str) -> EncryptingKey:
        """Raises ValueError: it is none to encrypt to."""


class KeySource(Protocol):
    """The keys that this process holds open; answers from memory."""

    def signing(self) -> SigningKey:
        """The key that signs now, by schedule. Raises NoSigningKeyError."""

    def verifying(self, key_id: str) -> VerifyingKey | None:
        """The key of this id that tokens may be signed with, or None."""

    def encrypting(self) -> EncryptingKey:
        """The key that tokens are encrypted to this service with now. Raises NoSigningKeyError."""

    def decrypting(self, key_id: str) -> DecryptingKey | None:
        """The key of this id that opens tokens, or None where there is none or it was retired."""


class KeyVault(Protocol):
    """Makes keys, and opens those that the store keeps sealed under the master key.

    Every `open_…` raises ConfigurationError when the master key is not the one that sealed it.
    """

    def make(self, purpose: KeyPurpose, algorithm: str, now: datetime) -> StoredKey:
        """A fresh random key, sealed, active from `now`.

        Raises ConfigurationError: unknown algorithm; SignerUnavailableError, as `SigningKey.sign` does.
        """

    def open_signing(self, key: StoredKey) -> SigningKey: ...

    def open_verifying(self, key: StoredKey) -> VerifyingKey: ...

    def open_refresh(self, key: StoredKey) -> bytes:
        """The 32 bytes that derive refresh tokens."""

    def reseal(self, key: StoredKey) -> StoredKey | None:
        """The key under the current master key; None = it is already. Raises ConfigurationError."""

    def open_encrypting(self, key: StoredKey) -> EncryptingKey: ...

    def open_decrypting(self, key: StoredKey) -> DecryptingKey: ...


class PublicKeyChecker(Protocol):
    """Says whether a key that somebody registers is one: public, well-formed, of an accepted algorithm."""

    def check_key(self, jwk: str) -> str:
        """The `kid` of a JWK. Raises ValueError, which says what it must be and holds no part of it."""

    def check_encryption_key(self, jwk: str) -> None:
        """Raises ValueError where tokens cannot be encrypted to a JWK; holds no part of it."""

    def check_key_set(self, jwks: str, algorithms: Sequence[str]) -> None:
        """Raises ValueError where a JWK Set has no key for one of these algorithms, or a private one."""


class IssuerKeys(Protocol):
    """The public keys of trusted issuers, from wherever each of them publishes its own."""

    def follow(self, issuers: Sequence[TrustedIssuer]) -> None:
        """These are trusted from now on: get their keys soon, forget those of others. Returns at once."""

    def find(self, issuer: TrustedIssuer, key_id: str) -> VerifyingKey | None:
        """The key of this id that the issuer signs with, or None where it has none.

        May wait for the issuer, for a bounded time and in few threads at once, so that a slow issuer holds
        up nobody else. Raises IssuerUnreachableError where it cannot be known.
        """


class TokenCodec(Protocol):
    """Access tokens to text and back."""

    def sign(self, token: AccessToken, encrypt_with: EncryptingKey | None = None) -> str:
        """The compact JWS, within a compact JWE where there is a key to encrypt with.

        Raises InvalidRequestError (field `claims`) when it would exceed 8 KiB.
        """

    def read(self, text: str) -> AccessToken | Rejected:
        """Everything that time does not change: form, algorithm, key, signature, type, issuer.

        Never raises for what a stranger can send.
        """


class LogListener(Protocol):
    """Who hears what a replica has folded, in the order of the log. It must return at once."""

    def folded(self, revision: Revision, changes: Sequence[tuple[Change, Link]]) -> None:
        """These changes are known now, and with them everything up to `revision`; the link is the entry's."""

    def replaced(self, revision: Revision) -> None:
        """The log was found replaced and is read again from its start; what was known stays known."""


class AuditTrail(Protocol):
    """Where audit events go. Never waits for the store."""

    def record(self, event: AuditEvent) -> None:
        """Log an event that records no change, and store it soon if events of its kind are stored.

        Of many alike the first are logged and stored one by one, the rest as one event with their number. An
        event that finds the queue for the store full is logged, counted and dropped.
        """

    def stored(self, event: AuditEvent) -> None:
        """Log an event that the store has taken together with the change that it records."""


class ReplicaView(Protocol):
    """What this process knows of the change log, in memory: no method but `reach` does any I/O."""

    @property
    def revision(self) -> Revision:
        """The place up to which everything of the log is known."""

    @property
    def revocations(self) -> Revocations:
        """What is denied."""

    @property
    def marks(self) -> Marks:
        """The longest lifetimes and leeway ever configured and the latest steady time, as last heard."""

    @property
    def staleness(self) -> float:
        """Seconds since the last beat was sent that the store confirmed and whose head is known."""

    def recognises(self, revision: Revision) -> bool:
        """Whether this place was read in the history that is followed; if not, that is an event.

        A place that was read more than 10,000 positions ago is not recognised, nor one of another epoch.
        """

    @property
    def latest_time(self) -> datetime:
        """The latest wall-clock time that this process ever accepted, or that it is now."""

    @property
    def held_time(self) -> datetime | None:
        """The wall-clock time, or None while the wall clock has not held for 10 minutes."""

    def require_ready(self) -> None:
        """Raise NotReadyError while the log has not been read to its end for the first time."""

    def require_clock(self) -> None:
        """Raise NotReadyError, or ClockSkewedError while the wall clock of this process is not accepted."""

    def require_fresh(self) -> None:
        """Raise NotReadyError, ReplicaStaleError or ClockSkewedError: nothing that may answer is known."""

    def reach(self, revision: Revision | None) -> None:
        """Read the log at least to `revision`, or with None to its end.

        A revision that does not lie in the history that is followed, or of which this is not known, has the
        log read to its end, once, and nothing more. Raises RevisionNotReachedError if the log ends before
        it, ServerBusyError if too many callers wait for the store, StoreUnavailableError.
        """

    def learn(self, appended: Appended) -> None:
        """Know at once what this process wrote itself; the revision stays where it is."""

    def add_unconfirmed(self, fact: Fact) -> None:
        """Know this from now on, and send it until the store has it: nobody can say whether it arrived."""


class EventLog(Protocol):
    """Where events go that an operator or auditor wants to see: names and fields, never a secret."""

    def record(self, event: str, **fields: object) -> None: ...
