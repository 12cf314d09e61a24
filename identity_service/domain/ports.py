"""The ports of the use cases, except those of the store (`store.py`): Protocols, named by role.

The docstrings here are promises that every implementation keeps. An implementation translates the exceptions
of its library into those of `domain/errors.py`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from identity_service.domain.audit import AuditEvent
from identity_service.domain.ids import KeyId, TokenId
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import Appended, Fact, Marks, Revision
from identity_service.domain.revocations import Revocations
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import AccessToken, Rejected


class Clock(Protocol):
    """The clocks of this process, injected so that tests can move them."""

    def now(self) -> datetime:
        """Return the wall-clock time, in UTC."""

    def unix(self) -> float:
        """Return the wall-clock time as Unix seconds, for code that runs on every call."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set."""

    def boot(self) -> float:
        """Return the seconds of the boot clock, with which the wall clock is compared.

        It is never set, and it goes on while the machine sleeps, as the wall clock does.
        """


class PasswordHasher(Protocol):
    """A hash function for passwords that is slow on purpose (argon2id).

    Callers run it on a thread that may block.
    """

    def hash(self, password: Secret) -> str:
        """Return the hash of a password as a PHC string, with a fresh salt."""

    def verify(self, phc: str | None, password: Secret) -> bool:
        """Return whether a password is the one that was hashed.

        With `phc` None the answer is False, after as long as a real comparison takes.
        """

    def is_outdated(self, phc: str) -> bool:
        """Return whether `hash` would make a stronger hash today."""


class SigningKey(Protocol):
    """A private key that signs tokens; an HSM or KMS can hold it."""

    @property
    def key_id(self) -> KeyId:
        """Return the `kid` of this key."""

    @property
    def algorithm(self) -> str:
        """Return the JWS `alg` of this key."""

    def sign(self, message: bytes) -> bytes:
        """Return the JWS signature of `message` (RFC 7515), within the deadline of a call.

        Raises SignerUnavailableError if the device that holds the key does not answer or refuses. The adapter
        translates the exceptions of its library, and keeps the texts of the device out of the message.
        """


class VerifyingKey(Protocol):
    """A public key (for HS256 the shared key) together with the one algorithm that it is for."""

    @property
    def key_id(self) -> KeyId:
        """Return the `kid` of this key."""

    @property
    def algorithm(self) -> str:
        """Return the JWS `alg` of this key."""

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether the JWS signature is valid; never raises, whatever the bytes are."""


class EncryptingKey(Protocol):
    """The public key of the party that may decrypt a token: an audience, or this service."""

    @property
    def key_id(self) -> KeyId:
        """Return the `kid` of this key."""

    def encrypt(self, token: str) -> str:
        """Return the compact JWE that holds a signed token (RFC 7519 section 5.2)."""


class DecryptingKey(Protocol):
    """A private key that decrypts tokens that were encrypted to this service; an HSM or KMS can hold it."""

    def decrypt(self, text: str) -> str | None:
        """Return the signed token in a compact JWE, or None if it cannot be decrypted.

        Never raises, whatever the text is.
        """


class KeySource(Protocol):
    """The keys that this process has loaded; every method answers from memory."""

    @property
    def verifying(self) -> Mapping[str, VerifyingKey]:
        """The keys that verify tokens, by their ids."""

    def signing(self) -> SigningKey:
        """Return the key that signs now, according to the key schedule. Raises NoSigningKeyError."""

    def encrypting(self) -> EncryptingKey:
        """Return the key that tokens are now encrypted with for this service. Raises NoSigningKeyError."""

    def decrypting(self, key_id: str) -> DecryptingKey | None:
        """Return the key with this id that decrypts tokens, or None if there is none or it was retired."""


class KeyVault(Protocol):
    """A factory of keys, which also opens the keys that the store holds sealed under the master key.

    Every `open_…` method raises ConfigurationError if the key was sealed under another master key.
    """

    def make(self, purpose: KeyPurpose, algorithm: str, now: datetime) -> StoredKey:
        """Return a new random key, sealed, whose `create_time` and `activate_time` are `now`.

        Raises ConfigurationError if the algorithm is unknown, and SignerUnavailableError as `SigningKey.sign`
        does.
        """

    def open_signing(self, key: StoredKey) -> SigningKey:
        """Return the private key of a stored signing key."""

    def open_verifying(self, key: StoredKey) -> VerifyingKey:
        """Return the verifying half of a stored signing key."""

    def open_refresh(self, key: StoredKey) -> bytes:
        """Return the 32 bytes that refresh tokens are derived from."""

    def reseal(self, key: StoredKey) -> StoredKey | None:
        """Return the key sealed under the current master key, or None if it already is.

        Raises ConfigurationError.
        """

    def open_encrypting(self, key: StoredKey) -> EncryptingKey:
        """Return the public half of a stored encryption key."""

    def open_decrypting(self, key: StoredKey) -> DecryptingKey:
        """Return the private half of a stored encryption key."""


class PublicKeyChecker(Protocol):
    """A checker of keys before they are registered: public, well-formed, of an accepted algorithm."""

    def check_key(self, jwk: str) -> str:
        """Return the `kid` of a JWK if the key is accepted.

        Raises ValueError, whose message says what the key must be and holds no part of it.
        """

    def check_encryption_key(self, jwk: str) -> None:
        """Raise ValueError if tokens cannot be encrypted to a JWK; the message holds no part of the key."""

    def check_key_set(self, jwks: str, algorithms: Sequence[str]) -> None:
        """Raise ValueError if a JWK Set has no key for any of these algorithms, or holds a private key."""


class TokenCodec(Protocol):
    """A codec for access tokens: from values to text, and back."""

    def sign(self, token: AccessToken, encrypt_with: EncryptingKey | None = None) -> str:
        """Return the token as a compact JWS, nested in a compact JWE if a key is given to encrypt it with.

        Raises InvalidRequestError (field `claims`) if the text would exceed 8 KiB.
        """

    def fixed_claims(self, token: AccessToken) -> bytes:
        """Return the claims of a token, except for its id and times, for `sign_repeated`."""

    def sign_repeated(
        self, fixed_claims: bytes, *, token_id: TokenId, issue_time: datetime, expire_time: datetime
    ) -> str:
        """Return a token with these claims as a compact JWS; `token_id` is as `new_token_id` makes one.

        Raises InvalidRequestError (field `claims`) if the text would exceed 8 KiB: since the earlier token,
        keys with longer signatures may have come.
        """

    def is_quick(self, text: str) -> bool:
        """Return whether `read` takes at most a fraction of a millisecond, as with ES256 and EdDSA."""

    def read(self, text: str) -> AccessToken | Rejected:
        """Read a token, and check everything in it that does not depend on time.

        That is form, algorithm, key, signature, type and issuer. Never raises, whatever the text is.
        """


class AuditTrail(Protocol):
    """A destination of audit events. Its methods never wait for the store."""

    def record(self, event: AuditEvent) -> None:
        """Log an event that records no change, and store it soon if events of its kind are stored.

        Of many similar events the first are logged and stored one by one, the rest as one event with their
        number. An event that finds the queue for the store full is logged, counted and dropped.
        """

    def stored(self, event: AuditEvent) -> None:
        """Log an event that the store has written in the same step as the change that it describes."""


class ReplicaView(Protocol):
    """The replica of the change log in this process, for reading; no method but `reach` does any I/O."""

    @property
    def revision(self) -> Revision:
        """Return the place in the log up to which every entry is applied."""

    @property
    def revocations(self) -> Revocations:
        """Return the revoked tokens and sessions, and the generations."""

    @property
    def marks(self) -> Marks:
        """Return the high-water marks of lifetimes, leeway and steady time, as last read."""

    @property
    def staleness(self) -> float:
        """Return how many seconds ago the last confirmed heartbeat was sent.

        A heartbeat counts once the replica has read the log up to the head that the heartbeat returned.
        """

    def recognises(self, revision: Revision) -> bool:
        """Return whether this place was read in the history that is followed, and log an event if not.

        A place of another epoch is not recognised, nor one that was read more than 10,000 positions ago.
        """

    @property
    def latest_time(self) -> datetime:
        """Return the latest wall-clock time that this process ever accepted, or now if that is later."""

    @property
    def held_time(self) -> datetime | None:
        """Return the wall-clock time, or None until the wall clock has run without a step for 10 minutes."""

    def require_ready(self) -> None:
        """Raise NotReadyError until the log has been read to its end for the first time."""

    def require_clock(self) -> None:
        """Raise NotReadyError, or ClockSkewedError while the wall clock of this process is not accepted."""

    def require_fresh(self) -> None:
        """Raise NotReadyError, ReplicaStaleError or ClockSkewedError if this process must not answer."""

    def reach(self, revision: Revision | None) -> None:
        """Read the log at least to `revision`, or with None to its end.

        If the revision is not in the history that is followed, or if that is not known, the log is read to
        its end once, and the call succeeds. Raises RevisionNotReachedError if the log ends before the
        revision, ServerBusyError if too many callers wait for the store, StoreUnavailableError.
        """

    def learn(self, appended: Appended) -> None:
        """Apply changes that this process itself wrote, at once; `revision` does not advance."""

    def add_unconfirmed(self, fact: Fact) -> None:
        """Enforce an unconfirmed revocation from now on, and resend it until the store confirms it."""


class EventLog(Protocol):
    """A destination of events for operators and auditors: names and fields, never a secret."""

    def record(self, event: str, **fields: object) -> None:
        """Log an event with its fields."""
