"""The text form of refresh tokens, derived from a key, a session and a number, so that no token is stored.

    idrt_ base64url( key id (8) ‖ sid (16) ‖ number (4) ‖ HMAC-SHA-256 (32) )

60 bytes are exactly 80 characters, so every token has one spelling only. A forged token is refused without a
store access. The prefix lets secret scanners find a leaked token.
"""

import base64
import hashlib
import hmac
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from identity_service.domain.errors import RefreshTokenInvalidError
from identity_service.domain.ids import KeyId, SessionId, base64url

PREFIX: Final = "idrt_"
KEY_ID_BYTES: Final = 8
_SESSION_ID_BYTES: Final = 16
_LAYOUT: Final = struct.Struct(">8s16sI32s")
# b64decode also accepts the alphabet of RFC 4648 section 4, whatever altchars says: a second spelling.
_TEXT: Final = re.compile(PREFIX + r"[A-Za-z0-9_-]{80}")
_CONTEXT: Final = b"identityapi.v1 refresh token\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A refresh token whose MAC verified."""

    key_id: KeyId
    session_id: SessionId
    number: int


def derive(key: bytes, token: RefreshToken) -> str:
    """Return the text of a refresh token: always the same for the same key, session and number.

    Raises ValueError if an id has the wrong width, since the token could not be read back.
    """
    key_id, sid = _decode(token.key_id), _decode(token.session_id)
    if len(key_id) != KEY_ID_BYTES or len(sid) != _SESSION_ID_BYTES:
        raise ValueError("a refresh token takes a key id of 8 bytes and a session id of 16")
    return PREFIX + base64url(_LAYOUT.pack(key_id, sid, token.number, _mac(key, key_id, sid, token.number)))


def read(text: str, find_key: Callable[[KeyId], bytes | None]) -> RefreshToken:
    """Parse a refresh token and verify its MAC.

    Raises RefreshTokenInvalidError for any text that this service did not issue.
    """
    if not _TEXT.fullmatch(text):
        raise RefreshTokenInvalidError
    key_id, sid, number, mac = _LAYOUT.unpack(base64.urlsafe_b64decode(text[len(PREFIX) :]))
    key = find_key(KeyId(base64url(key_id)))
    if key is None or not hmac.compare_digest(mac, _mac(key, key_id, sid, number)):
        raise RefreshTokenInvalidError
    return RefreshToken(key_id=KeyId(base64url(key_id)), session_id=SessionId(base64url(sid)), number=number)


def _mac(key: bytes, key_id: bytes, sid: bytes, number: int) -> bytes:
    message = _CONTEXT + key_id + sid + struct.pack(">I", number)
    return hmac.new(key, message, hashlib.sha256).digest()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
