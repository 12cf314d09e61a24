"""Secrets: a string that hides itself, and the client secrets and refresh tokens that this service makes.

A client secret is random, and stored as its digest. A refresh token is derived from a key, a session and a
number, so that no token is stored:

    idrt_ base64url( key id (8) ‖ sid (16) ‖ number (4) ‖ HMAC-SHA-256 (32) )

60 bytes are exactly 80 characters, so every token has one spelling only. A forged token is refused without a
store access. User passwords are hashed elsewhere (argon2id).
"""

import base64
import hashlib
import hmac
import re
import secrets
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from identity_service.domain.credential_errors import RefreshTokenInvalidError
from identity_service.domain.ids import KeyId, SessionId, base64url
from identity_service.domain.principals import StoredSecret

# Secret scanners find a leaked secret by its prefix.
CLIENT_SECRET_PREFIX: Final = "idcs_"  # noqa: S105
REFRESH_TOKEN_PREFIX: Final = "idrt_"  # noqa: S105
KEY_ID_BYTES: Final = 8
_SESSION_ID_BYTES: Final = 16
_LAYOUT: Final = struct.Struct(">8s16sI32s")
# b64decode also accepts the alphabet of RFC 4648 section 4, whatever altchars says: a second spelling.
_TEXT: Final = re.compile(REFRESH_TOKEN_PREFIX + r"[A-Za-z0-9_-]{80}")
_CONTEXT: Final = b"identityapi.v1 refresh token\0"


class Secret:
    """A wrapper of a password, secret or token: no log line, error or debugger shows it by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret string, for the one place that must use it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # lookups in sets and dicts do not take constant time

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not to be pickled")


def new_client_secret() -> Secret:
    """Return a new client secret of 256 random bits.

    That is too many to guess, so a plain SHA-256 suffices for storage, and is fast to check.
    """
    return Secret(CLIENT_SECRET_PREFIX + secrets.token_urlsafe(32))


def stored(secret: Secret, expire_time: datetime | None = None) -> StoredSecret:
    """Return the secret in the form in which the store holds it."""
    return StoredSecret(digest=digest_of_secret(secret), expire_time=expire_time)


def matches_any(shown: Secret, kept: Iterable[StoredSecret], now: datetime) -> bool:
    """Return whether the secret is one of those in force; takes equally long whether it is or not."""
    return digest_matches_any(digest_of_secret(shown), kept, now)


def digest_matches_any(digest: bytes, kept: Iterable[StoredSecret], now: datetime) -> bool:
    """Return what `matches_any` returns for the secret with this digest, as `digest_of_secret` returns it."""
    found = False
    for candidate in kept:
        equal = hmac.compare_digest(candidate.digest, digest)
        found |= equal and (candidate.expire_time is None or now < candidate.expire_time)
    return found


def digest_of_secret(secret: Secret) -> bytes:
    """Return the digest of a client secret, in which form the store holds it."""
    return hashlib.sha256(secret.reveal().encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A refresh token whose MAC verified."""

    key_id: KeyId
    session_id: SessionId
    number: int


def derive_refresh_token(key: bytes, token: RefreshToken) -> str:
    """Return the text of a refresh token: always the same for the same key, session and number.

    Raises ValueError if an id has the wrong width, since the token could not be read back.
    """
    key_id, sid = _decode(token.key_id), _decode(token.session_id)
    if len(key_id) != KEY_ID_BYTES or len(sid) != _SESSION_ID_BYTES:
        raise ValueError("a refresh token takes a key id of 8 bytes and a session id of 16")
    return REFRESH_TOKEN_PREFIX + base64url(
        _LAYOUT.pack(key_id, sid, token.number, _mac(key, key_id, sid, token.number))
    )


def read_refresh_token(text: str, find_key: Callable[[KeyId], bytes | None]) -> RefreshToken:
    """Parse a refresh token and verify its MAC.

    Raises RefreshTokenInvalidError for any text that this service did not issue.
    """
    if not _TEXT.fullmatch(text):
        raise RefreshTokenInvalidError
    key_id, sid, number, mac = _LAYOUT.unpack(base64.urlsafe_b64decode(text[len(REFRESH_TOKEN_PREFIX) :]))
    key = find_key(KeyId(base64url(key_id)))
    if key is None or not hmac.compare_digest(mac, _mac(key, key_id, sid, number)):
        raise RefreshTokenInvalidError
    return RefreshToken(key_id=KeyId(base64url(key_id)), session_id=SessionId(base64url(sid)), number=number)


def _mac(key: bytes, key_id: bytes, sid: bytes, number: int) -> bytes:
    message = _CONTEXT + key_id + sid + struct.pack(">I", number)
    return hmac.new(key, message, hashlib.sha256).digest()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
