"""Principals: the clients and users that tokens are issued to, and what each may have.

Owns the records. Decides nothing about a request (see `grants.py`) and checks no secret.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from identity_service.domain.ids import FIRST_PARTY_CLIENT, PrincipalId
from identity_service.domain.invisible import VISIBLE_NAME, comparable, is_visible_name

ANY: Final = "*"
"""In a client's audiences or scopes: all that the user may have that signs in through the client."""

_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+")
_DNS_NAME: Final = re.compile(
    r"dns:(?=.{1,253}$)[a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?"
    r"(\.[a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_CERTIFICATE_NAME_CHARS: Final = 2048
MAX_USERNAME_CHARS: Final = 128
USERNAME_RULE: Final = f"must be 1 to {MAX_USERNAME_CHARS} {VISIBLE_NAME}"
"""How an error describes a text for which `is_username` is True."""


class Grant(StrEnum):
    """How a client may get tokens (RFC 6749, names as in its grant_type)."""

    CLIENT_CREDENTIALS = "client_credentials"
    PASSWORD = "password"  # noqa: S105  # the name of a grant
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  # the name of a grant
    TOKEN_EXCHANGE = "token_exchange"  # noqa: S105  # the name of a grant


class OnReuse(StrEnum):
    """What a reused refresh token does where the client authenticated itself with the call."""

    END_SESSION = "end_session"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """A client secret as it is kept: its SHA-256, since it is 256 random bits made by the service."""

    digest: bytes = field(repr=False)
    create_time: datetime | None = None
    expire_time: datetime | None = None
    """When it stops working, while two overlap; None = never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A service that authenticates itself, or a program through which people sign in."""

    client_id: PrincipalId
    display_name: str = ""
    secrets: tuple[StoredSecret, ...] = ()
    certificates: frozenset[str] = frozenset()
    """What proves it in a certificate: `spiffe://…`, `dns:…` or `sha256:…`; each of one client only."""
    public_keys: tuple[str, ...] = ()
    """JWKs as JSON, with `kid` and `alg`; an assertion that any of them signed proves it (RFC 7523)."""
    grants: frozenset[Grant] = frozenset({Grant.CLIENT_CREDENTIALS})
    audiences: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    max_lifetime: timedelta | None = None
    """Of its access tokens; None = the service's own maximum."""
    on_reuse: OnReuse = OnReuse.END_SESSION
    require_binding: bool = False
    """Whether its tokens are issued only over a connection whose certificate they are then bound to."""
    exchange_audiences: frozenset[str] = frozenset()
    """Audiences of subject tokens that it may exchange: the names under which it receives tokens."""
    encryption_key: str | None = None
    """A public JWK as JSON, with `kid` and `alg`: tokens for it, as an audience, may be encrypted to it."""
    disabled: bool = False
    create_time: datetime | None = None

    @property
    def id(self) -> str:
        return self.client_id

    @property
    def is_public(self) -> bool:
        """Whether the client has no credential of its own, and may only sign people in."""
        return not (self.secrets or self.certificates or self.public_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person."""

    user_id: PrincipalId
    username: str
    """Unique, compared after `normalize_username`."""
    display_name: str = ""
    password_hash: str | None = field(default=None, repr=False)
    """An argon2id string in PHC format; None = cannot sign in by password."""
    audiences: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    disabled: bool = False
    create_time: datetime | None = None

    @property
    def id(self) -> str:
        return self.user_id


def normalize_username(username: str) -> str:
    """Return the form in which usernames are compared and indexed: NFKC, case folded, no space around."""
    folded = unicodedata.normalize("NFKC", username).casefold()
    # Folding takes some letters apart (U+0390): without a second pass "Ϊ́" and "ΐ" would be two names.
    return unicodedata.normalize("NFKC", folded).strip()


def is_username(text: str) -> bool:
    """Return whether a new user may have this name; records of before a rule may have others."""
    return 0 < len(text) <= MAX_USERNAME_CHARS and is_visible_name(text)


def is_name_as_password(password: str, username: str) -> bool:
    """Return whether a password is a username, once or several times, in any spelling of the name.

    Spellings differ in case, in spaces, in invisible characters and in what NFKC makes equal.
    """
    given, name = comparable(password), comparable(username)
    return bool(given and name) and given == name * (len(given) // len(name))


def normalize_certificate_name(text: str) -> str:
    """Return the one spelling of a name of a certificate: all but the path of a SPIFFE id in lower case."""
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        return text.lower()
    domain, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{domain.lower()}{slash}{path}"


def is_certificate_name(text: str) -> bool:
    """Return whether a text is a SPIFFE id, `dns:` and a name, or `sha256:` and 64 hex digits, normalized."""
    return len(text) <= _MAX_CERTIFICATE_NAME_CHARS and any(
        form.fullmatch(text) for form in (_SPIFFE_ID, _DNS_NAME, _FINGERPRINT)
    )


def first_party_client() -> Client:
    """Return the built-in client of `Password.client_id`'s default; the user's record bounds its tokens."""
    return Client(
        client_id=FIRST_PARTY_CLIENT,
        display_name="Built-in client for people",
        grants=frozenset({Grant.PASSWORD, Grant.REFRESH_TOKEN}),
        audiences=frozenset({ANY}),
        scopes=frozenset({ANY}),
    )
