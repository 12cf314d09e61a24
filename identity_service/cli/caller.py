"""Who calls: the credential of a command, from the environment, a file or a question. Never from its words,
which other users of the machine can read.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from identity_client import AccessTokens, ClientOptions, IdentityClient, PermissionDeniedError, TokenSet
from identity_service.cli.accounts import DEMO_ACCOUNTS, read_accounts
from identity_service.cli.output import Exit, fail, say, say_trimmed
from identity_service.config.values import is_loopback
from identity_service.jose.strict import decode_base64url, parse_object

DEVICE: Final = "identity command line"
"""How the session of a command is called while it lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a command was told about who calls."""

    username: str | None = None
    client_id: str | None = None
    audience: str

    @contextmanager
    def bearer(
        self, target: str, options: ClientOptions, scopes: Sequence[str]
    ) -> Iterator[str | AccessTokens | None]:
        """What proves the caller, until the block ends; None = the connection's certificate does."""
        if token := self._token():
            yield token
        elif credential := self._credential():
            with self._tokens(credential, target, options, scopes) as tokens:
                yield tokens
        elif options.tls is not None and options.tls.certificate_file is not None:
            yield None
        elif is_loopback(target) and (accounts := read_accounts()) is not None:
            say(f"identity: as the administrator of {DEMO_ACCOUNTS}")
            admin = _Secret(accounts["admin_id"], accounts["admin_secret"])
            with self._tokens(admin, target, options, scopes) as tokens:
                yield tokens
        else:
            fail(
                "say who calls: --username, or --client-id, or in the environment IDENTITY_TOKEN, or "
                "IDENTITY_CLIENT_ID and IDENTITY_CLIENT_SECRET (or IDENTITY_CLIENT_SECRET_FILE)",
                Exit.USAGE,
            )

    def _token(self) -> str | None:
        """What the command line says outweighs the environment."""
        return None if self.username or self.client_id else secret_of("IDENTITY_TOKEN")

    def _credential(self) -> "_Secret | _Password | None":
        if self.username:
            return _Password(self.username, read_password())
        if client_id := self.client_id or os.environ.get("IDENTITY_CLIENT_ID"):
            return _Secret(client_id, read_client_secret())
        if username := os.environ.get("IDENTITY_USERNAME"):
            return _Password(username, read_password())
        return None

    def _tokens(
        self, credential: "_Secret | _Password", target: str, options: ClientOptions, scopes: Sequence[str]
    ) -> AccessTokens:
        def sign_in(identity: IdentityClient) -> TokenSet:
            try:
                return credential.show(identity, self.audience, scopes)
            except PermissionDeniedError as error:
                if error.reason != "SCOPE_NOT_ALLOWED":
                    raise
                # Enough for what is the caller's own; what needs the scope says so by itself.
                return credential.show(identity, self.audience, ())

        return AccessTokens(IdentityClient(target, options=options), sign_in)


@dataclass(frozen=True, slots=True, repr=False)
class _Secret:
    client_id: str
    client_secret: str

    def show(self, identity: IdentityClient, audience: str, scopes: Sequence[str]) -> TokenSet:
        return identity.issue_with_secret(
            self.client_id, self.client_secret, audiences=[audience], scopes=scopes
        )


@dataclass(frozen=True, slots=True, repr=False)
class _Password:
    username: str
    password: str

    def show(self, identity: IdentityClient, audience: str, scopes: Sequence[str]) -> TokenSet:
        return identity.issue_with_password(
            self.username, self.password, audiences=[audience], scopes=scopes, device=DEVICE
        )


def subject_of(token: str) -> str:
    """Whom a token speaks for, as it says itself; empty where only the service can read it."""
    try:
        _, claims, _ = token.split(".")
        return str(parse_object(decode_base64url(claims)).get("sub", ""))
    except ValueError:
        return ""


def secret_of(name: str, *, blanks: str | None = None) -> str:
    """A secret from the environment without the line break that a file or a Secret often ends with.

    `blanks` = what is left out at its ends; None = all blanks.
    """
    written = os.environ.get(name, "")
    secret = written.strip(blanks)
    if secret != written:
        say_trimmed(name)
    return secret


def read_password() -> str:
    """The caller's own password: IDENTITY_PASSWORD, or asked for."""
    return secret_of("IDENTITY_PASSWORD", blanks="\r\n") or typer.prompt(
        "Password", hide_input=True, err=True
    )


def read_client_secret() -> str:
    """The secret of the client that calls: IDENTITY_CLIENT_SECRET, its file, or asked for."""
    return client_secret_of_environment() or typer.prompt("Client secret", hide_input=True, err=True)


def client_secret_of_environment() -> str | None:
    """IDENTITY_CLIENT_SECRET, or what the file IDENTITY_CLIENT_SECRET_FILE holds."""
    if secret := secret_of("IDENTITY_CLIENT_SECRET"):
        return secret
    path = os.environ.get("IDENTITY_CLIENT_SECRET_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        # `from None` as it were: the library's error carries the content.
        fail(f"IDENTITY_CLIENT_SECRET_FILE: {path} holds no text", Exit.USAGE)
    except OSError as error:
        fail(f"IDENTITY_CLIENT_SECRET_FILE: cannot read {path}: {error.strerror}", Exit.USAGE)
