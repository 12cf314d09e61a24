"""Names of things: what identifies a principal, a session, a token, a key, a place in the log.

Owns their types and how they are drawn. Knows nothing of what they identify.
"""

import base64
import re
import secrets
from typing import Final, NewType

PrincipalId = NewType("PrincipalId", str)
"""A client's `client_id` or a user's generated id: one namespace. `EVERYONE` stands for all of them."""

SessionId = NewType("SessionId", str)
"""`sid`: 128 random bits, base64url, 22 characters."""

TokenId = NewType("TokenId", str)
"""`jti`: 128 random bits, base64url, 22 characters when made here."""

KeyId = NewType("KeyId", str)
"""`kid`: the RFC 7638 thumbprint of a signing key, or the random name of a refresh key."""

Epoch = NewType("Epoch", str)
"""The random name that a change log is given when it is created."""

Link = NewType("Link", str)
"""The random name of one entry of a change log."""

EVERYONE: Final = PrincipalId("*")
"""The whole service: raising its generation revokes every token there is."""

FIRST_PARTY_CLIENT: Final = PrincipalId("first-party")
"""The client through which a person signs in who names none. Public: it has no secret."""

USER_PREFIX: Final = "u_"
"""Of the ids of users: no client's id begins so."""

NO_LINK: Final = Link("")
"""What stands before the first entry of a log."""

_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}")


def is_principal_id(text: str) -> bool:
    """Whether `text` may name a principal: 1 to 128 letters, digits and `._:@/-`, a letter or digit first."""
    return _PRINCIPAL.fullmatch(text) is not None


_KEY: Final = "*key:"


def key_principal(key_id: KeyId) -> PrincipalId:
    """What is raised when a key is retired: everything made with it. No client's id looks so."""
    return PrincipalId(f"{_KEY}{key_id}")


def is_key_principal(principal: PrincipalId) -> bool:
    return principal.startswith(_KEY)


def base64url(data: bytes) -> str:
    """Unpadded base64url (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def new_token_id() -> TokenId:
    return TokenId(secrets.token_urlsafe(16))


def new_session_id() -> SessionId:
    return SessionId(secrets.token_urlsafe(16))


def new_user_id() -> PrincipalId:
    """A user keeps this id whatever becomes of the username."""
    return PrincipalId(USER_PREFIX + secrets.token_hex(10))


def new_epoch() -> Epoch:
    return Epoch(secrets.token_hex(8))


def new_link() -> Link:
    return Link(secrets.token_urlsafe(8))
