"""Principals: the records of clients and users, and the rules for their names.

The module decides nothing about a request (see `grants.py`) and checks no secret.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from identity_service.domain.ids import FIRST_PARTY_CLIENT, PrincipalId
from identity_service.domain.visible import VISIBLE_NAME, comparable, is_visible_name

ANY: Final = "*"
"""An entry in a client's audiences or scopes that stands for everything that the user who signs in through
the client may have."""

_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+")
_DNS_NAME: Final = re.compile(
    r"dns:(?=.{1,253}$)[a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?"
    r"(\.[a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_CERTIFICATE_NAME_CHARS: Final = 2048
MAX_USERNAME_CHARS: Final = 128
USERNAME_RULE: Final = f"must be 1 to {MAX_USERNAME_CHARS} {VISIBLE_NAME}"
"""The description, in errors, of a text for which `is_username` is True."""


class Grant(StrEnum):
    """The grants by which a client may get tokens (RFC 6749, named as in its grant_type)."""

    CLIENT_CREDENTIALS = "client_credentials"
    PASSWORD = "password"  # noqa: S105  # the name of a grant
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  # the name of a grant
    TOKEN_EXCHANGE = "token_exchange"  # noqa: S105  # the name of a grant


_OF_PUBLIC_CLIENTS: Final = frozenset({Grant.PASSWORD, Grant.REFRESH_TOKEN})
"""The grants for which a public client need not authenticate itself."""


class OnReuse(StrEnum):
    """The reaction if a refresh token is reused and the client authenticated itself with that call."""

    END_SESSION = "end_session"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """A stored client secret: its SHA-256, which suffices for 256 random bits made by the service."""

    digest: bytes = field(repr=False)
    create_time: datetime | None = None
    expire_time: datetime | None = None
    """The time at which the secret stops working, while two secrets overlap; None = never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client: a service that authenticates itself, or a program through which users sign in."""

    client_id: PrincipalId
    display_name: str = ""
    secrets: tuple[StoredSecret, ...] = ()
    certificates: frozenset[str] = frozenset()
    """The certificate names that authenticate the client: `spiffe://…`, `dns:…` or `sha256:…`; each belongs
    to one client only."""
    public_keys: tuple[str, ...] = ()
    """Public JWKs as JSON, with `kid` and `alg`; an assertion signed by any of them authenticates the client
    (RFC 7523)."""
    grants: frozenset[Grant] = frozenset({Grant.CLIENT_CREDENTIALS})
    audiences: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    max_lifetime: timedelta | None = None
    """The longest lifetime of its access tokens; None = the service's own maximum."""
    on_reuse: OnReuse = OnReuse.END_SESSION
    require_binding: bool = False
    """True if its tokens are issued only bound: to the key of the request's DPoP proof, or else to the client
    certificate of the connection."""
    exchange_audiences: frozenset[str] = frozenset()
    """The audiences of subject tokens that it may exchange: the names under which it receives tokens."""
    encryption_key: str | None = None
    """A public JWK as JSON, with `kid` and `alg`, with which tokens for this client as audience may be
    encrypted."""
    disabled: bool = False
    create_time: datetime | None = None

    @property
    def id(self) -> str:
        """Return the id of the record, which is the client id."""
        return self.client_id

    @property
    def is_public(self) -> bool:
        """Return whether the client has no credential of its own: only users can sign in through it."""
        return not (self.secrets or self.certificates or self.public_keys)

    @property
    def only_names_itself(self) -> bool:
        """Return whether the client can use a grant without a credential (authentication method `none`).

        A client without a credential and without such a grant is authenticated by a trusted issuer.
        """
        return self.is_public and not self.disabled and not self.grants.isdisjoint(_OF_PUBLIC_CLIENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user: a person who signs in."""

    user_id: PrincipalId
    username: str
    """The username; unique, compared after `normalize_username`."""
    display_name: str = ""
    password_hash: str | None = field(default=None, repr=False)
    """The argon2id hash in PHC format; None = the user cannot sign in by password."""
    audiences: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    disabled: bool = False
    create_time: datetime | None = None

    @property
    def id(self) -> str:
        """Return the id of the record, which is the user id."""
        return self.user_id


def normalize_username(username: str) -> str:
    """Return the form in which usernames are compared and indexed: NFKC, case folded, spaces stripped."""
    folded = unicodedata.normalize("NFKC", username).casefold()
    # Case folding decomposes some letters (U+0390): without a second pass "Ϊ́" and "ΐ" would be two names.
    return unicodedata.normalize("NFKC", folded).strip()


def is_username(text: str) -> bool:
    """Return whether a new user may have this name; older records may have names that break the rule."""
    return 0 < len(text) <= MAX_USERNAME_CHARS and is_visible_name(text)


def is_name_as_password(password: str, username: str) -> bool:
    """Return whether a password is a username, once or repeated, in any spelling of the name.

    Spellings differ in case, in spaces, in invisible characters and in what NFKC makes equal.
    """
    given, name = comparable(password), comparable(username)
    return bool(given and name) and given == name * (len(given) // len(name))


def normalize_certificate_name(text: str) -> str:
    """Return the canonical spelling of a certificate name: lower case except for the path of a SPIFFE id."""
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        return text.lower()
    domain, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{domain.lower()}{slash}{path}"


def is_certificate_name(text: str) -> bool:
    """Return whether a text is a certificate name in its canonical spelling.

    That is a SPIFFE id, `dns:` and a name, or `sha256:` and 64 hexadecimal digits.
    """
    return len(text) <= _MAX_CERTIFICATE_NAME_CHARS and any(
        form.fullmatch(text) for form in (_SPIFFE_ID, _DNS_NAME, _FINGERPRINT)
    )


def first_party_client() -> Client:
    """Return the built-in client for sign-ins that name no client; the user's record limits its tokens."""
    return Client(
        client_id=FIRST_PARTY_CLIENT,
        display_name="Built-in client for people",
        grants=frozenset({Grant.PASSWORD, Grant.REFRESH_TOKEN}),
        audiences=frozenset({ANY}),
        scopes=frozenset({ANY}),
    )
