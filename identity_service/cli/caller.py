"""The credential with which a command calls the service: from the environment, a file or a prompt.

A secret is never a command-line argument, since other users of the machine can read those.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import GetPassWarning
from pathlib import Path
from typing import Final

import typer

from identity_client import AccessTokens, ClientOptions, IdentityClient, PermissionDeniedError, TokenSet
from identity_client.credentials import by_password, by_secret
from identity_client.requests import issue_request
from identity_service.cli.demo import DEMO_FILE, read_demo_secrets
from identity_service.cli.output import fail, say, say_trimmed
from identity_service.domain.urls import is_loopback
from identity_shared.token_ids import unverified_claims
from identityapi.v1 import token_pb2

DEVICE: Final = "identity command line"
"""The device name of the session that a command opens, in the list of sessions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCaller:
    """The caller that the command line names, if any, and the audience of tokens for the service."""

    username: str | None = None
    client_id: str | None = None
    audience: str

    @property
    def is_named(self) -> bool:
        """Return whether the command line names a caller."""
        return bool(self.username or self.client_id)

    @contextmanager
    def bearer(
        self, target: str, options: ClientOptions, scopes: Sequence[str]
    ) -> Iterator[str | AccessTokens | None]:
        """Yield the caller's token or source of tokens, valid until the block ends.

        None means that the client certificate of the connection authenticates the caller. Ends the command
        with Exit.USAGE if there is no credential at all.
        """
        if token := self._token():
            yield token
        elif credential := self._credential():
            with self._tokens(credential, target, options, scopes) as tokens:
                yield tokens
        elif options.tls is not None and options.tls.certificate_file is not None:
            yield None
        elif is_loopback(target) and (demo := read_demo_secrets()) is not None:
            say(f"identity: calling as the administrator in {DEMO_FILE}")
            admin = by_secret(demo["admin_id"], demo["admin_secret"])
            with self._tokens(admin, target, options, scopes) as tokens:
                yield tokens
        else:
            fail(
                "name the caller: give --username or --client-id, or set IDENTITY_TOKEN, or "
                "IDENTITY_CLIENT_ID and IDENTITY_CLIENT_SECRET (or IDENTITY_CLIENT_SECRET_FILE)"
            )

    def _token(self) -> str | None:
        """Return IDENTITY_TOKEN ("" if it is not set), or None if the command line names a caller."""
        return None if self.is_named else secret_of("IDENTITY_TOKEN")

    def _credential(self) -> token_pb2.Credential | None:
        if self.username:
            return by_password(self.username, read_password())
        if client_id := self.client_id or os.environ.get("IDENTITY_CLIENT_ID"):
            return by_secret(client_id, read_client_secret())
        if username := os.environ.get("IDENTITY_USERNAME"):
            return by_password(username, read_password())
        return None

    def _tokens(
        self, credential: token_pb2.Credential, target: str, options: ClientOptions, scopes: Sequence[str]
    ) -> AccessTokens:
        def sign_in(identity: IdentityClient) -> TokenSet:
            request = issue_request(credential, audiences=[self.audience], scopes=scopes, device=DEVICE)
            try:
                return identity.issue(request)
            except PermissionDeniedError as error:
                if error.reason != "SCOPE_NOT_ALLOWED":
                    raise
            # Without the scope the caller may still manage its own sessions; other calls are refused.
            del request.scopes[:]
            return identity.issue(request)

        return AccessTokens(IdentityClient(target, options=options), sign_in)


def subject_of(token: str) -> str:
    """Return the unverified `sub` of a token; empty if it has none or cannot be read, e.g. is encrypted."""
    try:
        return str(unverified_claims(token).get("sub", ""))
    except ValueError:
        return ""


def secret_of(name: str, *, blanks: str | None = None) -> str:
    """Return a secret from the environment, stripped, since files often end with a line break.

    Says once, on standard error, if anything was stripped. Returns "" if the variable is not set.

    Args:
        name: the environment variable.
        blanks: the characters to strip at both ends; None = all white space.
    """
    written = os.environ.get(name, "")
    secret = written.strip(blanks)
    if secret != written:
        say_trimmed(name)
    return secret


def read_password() -> str:
    """Return the caller's password from IDENTITY_PASSWORD, or prompt for it."""
    return secret_of("IDENTITY_PASSWORD", blanks="\r\n") or ask("Password", "set IDENTITY_PASSWORD")


def read_client_secret() -> str:
    """Return the calling client's secret from the environment or its file, or prompt for it."""
    remedy = "set IDENTITY_CLIENT_SECRET or IDENTITY_CLIENT_SECRET_FILE"
    return client_secret_of_environment() or ask("Client secret", remedy)


def ask(what: str, remedy: str, *, twice: bool = False) -> str:
    """Return the answer to a prompt; end the command with Exit.USAGE if there is none, as in a script."""
    try:
        with warnings.catch_warnings():
            # Without a terminal, the answer is read from standard input, and nothing is echoed anyway.
            warnings.simplefilter("ignore", GetPassWarning)
            answer: str = typer.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
    except typer.Abort:
        say("")
        fail(f"{what}: no answer; {remedy}")
    return answer


def client_secret_of_environment() -> str | None:
    """Return IDENTITY_CLIENT_SECRET, or the content of the file IDENTITY_CLIENT_SECRET_FILE, or None.

    Ends the command with Exit.USAGE if the file cannot be read.
    """
    if secret := secret_of("IDENTITY_CLIENT_SECRET"):
        return secret
    path = os.environ.get("IDENTITY_CLIENT_SECRET_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        # The library's error is not shown: it contains the content of the file, which is a secret.
        fail(f"IDENTITY_CLIENT_SECRET_FILE: {path} is not a text file")
    except OSError as error:
        fail(f"IDENTITY_CLIENT_SECRET_FILE: cannot read {path}: {error.strerror}")
