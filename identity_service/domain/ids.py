"""Identifiers: the types of ids of principals, sessions, tokens, keys and log entries, and their generation.

The module knows nothing about the things that the ids identify.
"""

import binascii
import hashlib
import os
import re
import secrets
from typing import Final, NewType

PrincipalId = NewType("PrincipalId", str)
"""The id of a principal: a client's `client_id` or a user's generated id, in one namespace. `EVERYONE` stands
for all principals."""

SessionId = NewType("SessionId", str)
"""The id of a session (`sid`): 128 random bits in base64url, 22 characters."""

TokenId = NewType("TokenId", str)
"""The id of a token (`jti`). This service makes ids of 128 random bits in base64url, 22 characters."""

KeyId = NewType("KeyId", str)
"""The id of a key (`kid`): the RFC 7638 thumbprint of a signing key, or the random name of a refresh key."""

Epoch = NewType("Epoch", str)
"""The random name that a change log gets when it is created, restored or found damaged."""

Link = NewType("Link", str)
"""The random name of one entry of a change log."""

EVERYONE: Final = PrincipalId("*")
"""The principal that stands for the whole service: raising its generation revokes every token."""

FIRST_PARTY_CLIENT: Final = PrincipalId("first-party")
"""The id of the client for users who sign in without naming a client. It is public: it has no secret."""

USER_PREFIX: Final = "u_"
"""The prefix of users' ids; no client's id begins with it."""

NO_LINK: Final = Link("")
"""The link before the first entry of a log."""

_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}")


def is_principal_id(text: str) -> bool:
    """Return whether `text` is a valid principal id.

    That is 1 to 128 letters, digits and `._:@/-`, beginning with a letter or digit.
    """
    return _PRINCIPAL.fullmatch(text) is not None


_KEY: Final = "*key:"


def key_principal(key_id: KeyId) -> PrincipalId:
    """Return the principal whose generation is raised when a key is retired; no client's id looks like it.

    Raising it revokes everything that was made with the key.
    """
    return PrincipalId(f"{_KEY}{key_id}")


def is_key_principal(principal: PrincipalId) -> bool:
    """Return whether a principal stands for a key; see `key_principal`."""
    return principal.startswith(_KEY)


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def base64url(data: bytes) -> str:
    """Return unpadded base64url (RFC 7515 section 2)."""
    # The same as `base64.urlsafe_b64encode`, without its layers: a token takes three of these (bar S6).
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_URL_SAFE).decode()


def digest_of(text: str) -> str:
    """Hash a text of a client or issuer for a key of the store: of fixed length, without collisions."""
    return base64url(hashlib.sha256(text.encode()).digest())


def new_token_id() -> TokenId:
    """Return a new random token id."""
    return TokenId(base64url(os.urandom(16)))


def new_session_id() -> SessionId:
    """Return a new random session id."""
    return SessionId(secrets.token_urlsafe(16))


def new_user_id() -> PrincipalId:
    """Return a new random user id; it stays the same if the username changes."""
    return PrincipalId(USER_PREFIX + secrets.token_hex(10))


def new_epoch() -> Epoch:
    """Return a new random epoch: 64 bits in hexadecimal."""
    return Epoch(secrets.token_hex(8))


def new_link() -> Link:
    """Return a new random link: 64 bits in base64url."""
    return Link(secrets.token_urlsafe(8))
