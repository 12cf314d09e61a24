"""Trusted issuers, whose JWTs authenticate clients: their rules and names, and the port of their keys.

The module parses no JWT and fetches no key.
"""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from posixpath import normpath
from typing import Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from identity_service.domain.ids import PrincipalId, base64url
from identity_service.domain.ports import VerifyingKey
from identity_service.domain.visible import comparable

FEDERATED_PREFIX: Final = "f_"
"""The prefix of ids of principals that have no record: only `federated_id` makes such ids."""

ISSUER_ALGORITHMS: Final = ("ES256", "ES384", "EdDSA", "RS256", "PS256")
"""The algorithms of an issuer for which none are configured; none is symmetric."""
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRule:
    """A rule that tokens with certain claims authenticate a certain client."""

    claims: Mapping[str, str]
    """Claim path → the value that it must have: the whole value, or with a `*` at its end a prefix. See
    `applies`."""
    client_id: PrincipalId
    per_subject: bool = False
    """True if each `sub` of the issuer is a separate subject; if False, the subject is the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """Another issuer, whose tokens are credentials. Exactly one of the three sources of keys is set."""

    issuer: str
    jwks_uri: str | None = None
    jwks_file: str | None = None
    jwks: str | None = None
    audiences: tuple[str, ...] = ()
    """The accepted audiences of its tokens; empty = the issuer name of this service."""
    algorithms: tuple[str, ...] = ISSUER_ALGORITHMS
    rules: tuple[TrustRule, ...] = field(default_factory=tuple)
    """The rules; the first rule that applies decides."""
    single_use: bool = False
    """True if each token is accepted only once, by its `jti`."""
    max_age: timedelta | None = None
    """The longest time from `iat` to now; None = only `exp` limits it."""
    create_time: datetime | None = None

    @property
    def id(self) -> str:
        """Return the id of the record, which is the issuer name."""
        return self.issuer

    def rule_for(self, claims: Mapping[str, object]) -> TrustRule | None:
        """Return the rule that applies to a token with these claims; None = the token is refused."""
        return next((rule for rule in self.rules if applies(rule, claims)), None)


def applies(rule: TrustRule, claims: Mapping[str, object]) -> bool:
    """Return whether a token with these claims matches the rule. A rule without claims matches no token."""
    return bool(rule.claims) and all(
        any(_is(value, wanted) for value in _values(claims, path)) for path, wanted in rule.claims.items()
    )


def federated_id(issuer: str, subject: str) -> PrincipalId:
    """Return the id of a principal without a record: no two pairs of issuer and subject share one."""
    digest = hashlib.sha256(f"{len(issuer)}:{issuer}{subject}".encode()).digest()
    return PrincipalId(FEDERATED_PREFIX + base64url(digest[:18]))


def _values(claims: object, path: str) -> tuple[object, ...]:
    """Return the values of the claim at a dotted path.

    The longest matching member name is tried first, since names may contain dots. A list gives several
    values.
    """
    if not isinstance(claims, Mapping):
        return ()
    if path in claims:
        found = claims[path]
        return tuple(found) if isinstance(found, list) else (found,)
    name, dot, _ = path.rpartition(".")
    while dot:
        if name in claims:
            return _values(claims[name], path[len(name) + 1 :])
        name, dot, _ = name.rpartition(".")
    return ()


def _is(value: object, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == str(value).lower()
    if not isinstance(value, str | int):
        return False
    text = str(value)
    return text.startswith(wanted[:-1]) if wanted.endswith("*") else text == wanted


class IssuerKeys(Protocol):
    """The public keys of trusted issuers, from the place where each issuer publishes its keys."""

    def follow(self, issuers: Sequence[TrustedIssuer]) -> None:
        """Trust exactly these issuers from now on: fetch their keys soon, drop the keys of others.

        Returns at once.
        """

    def find(self, issuer: TrustedIssuer, key_id: str) -> VerifyingKey | None:
        """Return the key with this id that the issuer signs with, or None if the issuer has none.

        May wait for the issuer, for a bounded time and on a bounded number of threads, so that a slow issuer
        does not delay calls that concern others. Raises IssuerUnreachableError if the keys cannot be read.
        """


@dataclass(frozen=True, slots=True)
class IssuerNames:
    """The issuer names of this service: the one in its new tokens, and former ones that it still accepts."""

    current: str
    former: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Return all names, the current one first."""
        return (self.current, *self.former)

    def spelled(self, name: str) -> str | None:
        """Return the name of this service that `name` is a spelling of (`is_same_issuer`), or None."""
        return next((own for own in self.all if is_same_issuer(name, own)), None)


def is_same_issuer(first: str, second: str) -> bool:
    """Return whether two issuer names are spellings of one name; the `iss` of a token is compared exactly.

    For URLs these do not matter: the case of scheme and host, the default port, a dot after the host, slashes
    at the end of the path, dot segments, percent-encoding, and the form of an internationalised host (NFKC,
    then IDNA). For other names case and invisible characters do not matter.
    """
    return first == second or _canonical(first) == _canonical(second)


def _canonical(name: str) -> object:
    text = unicodedata.normalize("NFKC", name)
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return comparable(text)
    if not url.hostname:
        return comparable(text).rstrip("/")
    default = _DEFAULT_PORTS.get(url.scheme)
    port = default if port is None else port
    return url.scheme, _host(url.hostname), port, _path(url), url.query, url.fragment


def _host(host: str) -> str:
    text = comparable(host)
    with suppress(ValueError):
        return str(ip_address(text))
    try:
        return text.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError:  # an empty label, or a long one
        return text.rstrip(".")


def _path(url: SplitResult) -> str:
    """Return the path without dot segments, empty segments and a slash at its end."""
    return normpath("/" + unquote(url.path).lstrip("/"))
