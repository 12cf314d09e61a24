"""A real identity-service for the tests of other programs, on an embedded store that is deleted afterwards.

import pytest
from identity_client.testing import service_process

@pytest.fixture(scope="session")
def identity():
    with service_process() as service:
        yield service

def test_reports_need_a_token(identity, monkeypatch):
    identity.create_client("reports", audiences=["api"], scopes=["read"])
    token = identity.client_token("reports", audience="api")
    ...

`service_process` runs the service in a process of its own, for which the distribution `identity-service` must
be installed; `identity_service.testing.service` runs it in the process of the tests.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final

from identity_client.admin import AdminClient
from identity_client.client import IdentityClient
from identity_client.environment import SERVICE_AUDIENCE
from identity_client.options import ClientOptions
from identity_client.renewal import AccessTokens
from identity_client.tls import TlsOptions
from identity_client.values import TokenSet
from identityapi.v1.principal_pb2 import Client, User

_END: Final = 30.0
"""Seconds that a service may take to stop; then it is killed."""
_DEADLINE: Final = timedelta(seconds=30)
"""The deadline of each call here: a machine that runs tests may be busy."""


@dataclass(kw_only=True)
class ServiceUnderTest:
    """A running service, with its first administrator, and the clients and users that a test created."""

    target: str
    """The host:port of its gRPC API."""
    issuer: str
    """Its setting `issuer`, which LocalVerifier needs."""
    ca_file: Path | None
    """The authority of its certificate, if it serves with TLS; otherwise None."""
    admin_client_id: str
    admin_client_secret: str = field(repr=False)
    _secrets: dict[str, str] = field(default_factory=dict, repr=False)
    _open: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def tls(self) -> TlsOptions | None:
        """Return the TLS options of its clients; None if it serves without TLS."""
        return TlsOptions(ca_file=self.ca_file) if self.ca_file is not None else None

    @cached_property
    def identity(self) -> IdentityClient:
        """A client without a token of its own, which issues and refreshes."""
        options = ClientOptions(timeout=_DEADLINE, tls=self.tls)
        return self._open.enter_context(IdentityClient(self.target, options=options))

    @cached_property
    def admin(self) -> AdminClient:
        """A client that administers the service, with the scope identity.admin."""
        options = self._administrator("identity.admin")
        return self._open.enter_context(AdminClient(self.target, options=options))

    @cached_property
    def revoker(self) -> IdentityClient:
        """A client that may revoke and verify everything: scopes identity.revoke and identity.verify."""
        options = self._administrator("identity.revoke", "identity.verify")
        return self._open.enter_context(IdentityClient(self.target, options=options))

    def create_client(
        self,
        client_id: str,
        *,
        audiences: Iterable[str] = ("*",),
        scopes: Iterable[str] = ("*",),
        **fields: Any,
    ) -> str:
        """Create a client and return its secret.

        Args:
            client_id: the id of the client.
            audiences: those that it may have tokens for; "*" = any.
            scopes: those that it may have, such as identity.verify for a verifier; "*" = all but identity.*.
            fields: further fields of identityapi.v1.Client, such as `exchange_audiences`.
        """
        client = Client(client_id=client_id, audiences=audiences, scopes=scopes, **fields)
        secret = self.admin.create_client(client).client_secret
        self._secrets[client_id] = secret
        return secret

    def create_user(
        self,
        username: str,
        password: str,
        *,
        audiences: Iterable[str],
        scopes: Iterable[str],
        **fields: Any,
    ) -> User:
        """Create a user and return the record, which has the user's id.

        Args:
            username: the name with which the user signs in.
            password: 8 to 1,024 characters and not a common password.
            audiences: those that the user may have tokens for.
            scopes: those that the user may have.
            fields: further fields of identityapi.v1.User, such as `display_name`.
        """
        user = User(username=username, audiences=audiences, scopes=scopes, **fields)
        made = self.admin.create_user(user, password=password)
        self._secrets[username] = password
        return made

    def client_token(self, client_id: str, *, audience: str, scopes: Iterable[str] = ()) -> str:
        """Return an access token of a client that `create_client` created."""
        secret = self._secret_of(client_id, "create_client")
        issued = self.identity.issue_with_secret(client_id, secret, audiences=[audience], scopes=scopes)
        return issued.access_token

    def sign_in(self, username: str, *, audience: str, scopes: Iterable[str] = ()) -> TokenSet:
        """Return the tokens of a new session of a user that `create_user` created."""
        password = self._secret_of(username, "create_user")
        return self.identity.issue_with_password(username, password, audiences=[audience], scopes=scopes)

    def environment(self, client_id: str = "") -> dict[str, str]:
        """Return the variables with which a program finds the service, and authenticates as a client."""
        found = {"IDENTITY_TARGET": self.target, "IDENTITY_ISSUER": self.issuer}
        if self.ca_file is not None:
            found["IDENTITY_CA_FILE"] = str(self.ca_file)
        if client_id:
            found["IDENTITY_CLIENT_ID"] = client_id
            found["IDENTITY_CLIENT_SECRET"] = self._secret_of(client_id, "create_client")
        return found

    def close(self) -> None:
        """Close the connections of its clients."""
        self._open.close()

    def _administrator(self, *scopes: str) -> ClientOptions:
        tokens = AccessTokens.by_secret(
            self.admin_client_id,
            self.admin_client_secret,
            target=self.target,
            audience=SERVICE_AUDIENCE,
            scopes=scopes,
            options=ClientOptions(timeout=_DEADLINE, tls=self.tls),
        )
        self._open.enter_context(tokens)
        return ClientOptions(timeout=_DEADLINE, tls=self.tls, bearer=tokens)

    def _secret_of(self, name: str, method: str) -> str:
        if name not in self._secrets:
            raise KeyError(f"{name} was not created here: call {method} first")
        return self._secrets[name]


@contextmanager
def service_process(
    *, tls: bool = False, settings: Mapping[str, Any] | None = None, python: str = sys.executable
) -> Iterator[ServiceUnderTest]:
    """Run a service in a process of its own until the block ends, or this process does.

    Args:
        tls: whether to serve with TLS, with a certificate of an authority that is made for it; callers of
            Verify and Watch then need a token with the scope identity.verify.
        settings: settings of the service by name, for example `{"access_token_lifetime": "5s"}`.
        python: the interpreter in whose environment identity-service is installed.

    Raises RuntimeError if the service does not start; it has written the reason to standard error.
    """
    plan = json.dumps({"tls": tls, "settings": dict(settings or {})})
    process = subprocess.Popen(
        [python, "-m", "identity_service.testing", plan],
        stdin=subprocess.PIPE,  # the service ends when this process closes it, or ends
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with closing(_started(process)) as service:
            yield service
    finally:
        _end(process)


def _started(process: "subprocess.Popen[str]") -> ServiceUnderTest:
    output: IO[str] = _pipe(process.stdout)
    line = output.readline()
    if not line:
        raise RuntimeError(
            f"the service has not started (exit code {process.wait(_END)}): see standard error; the "
            "distribution identity-service must be installed for this Python"
        )
    found = json.loads(line)
    ca_file = found.pop("ca_file")
    return ServiceUnderTest(ca_file=Path(ca_file) if ca_file else None, **found)


def _end(process: "subprocess.Popen[str]") -> None:
    _pipe(process.stdin).close()
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _pipe(process.stdout).close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream
