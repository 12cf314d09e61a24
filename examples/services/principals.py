"""The clients and users of the demonstration. They are deleted at its end."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from identity_client import AccessTokens, AdminClient
from identity_client.environment import Environment
from identityapi.v1.principal_pb2 import GRANT_CLIENT_CREDENTIALS, GRANT_TOKEN_EXCHANGE, Client, User

DEMO_FILE = Path("var/demo.json")
"""The file in which `make run` keeps the secret of its administrator."""


@dataclass(kw_only=True)
class Principals:
    """Creates clients and users with names that no other run has, and deletes them."""

    admin: AdminClient
    environment: Environment
    _suffix: str = field(default_factory=lambda: secrets.token_hex(4))
    _made: ExitStack = field(default_factory=ExitStack)

    def client(self, name: str, **fields: object) -> dict[str, str]:
        """Create a client; return the variables with which a program authenticates as it."""
        made = self.admin.create_client(Client(client_id=f"{name}-{self._suffix}", **fields))  # type: ignore[arg-type]
        self._made.callback(self.admin.delete_client, made.client.client_id)
        return self._variables() | {
            "IDENTITY_CLIENT_ID": made.client.client_id,
            "IDENTITY_CLIENT_SECRET": made.client_secret,
        }

    def service(
        self, name: str, *, scopes: tuple[str, ...] = (), calls: tuple[str, ...] = ()
    ) -> dict[str, str]:
        """Create the client of a service that verifies tokens and calls other services for its callers."""
        return self.client(
            name,
            audiences=[self.environment.service_audience, *calls],
            scopes=["identity.verify", *scopes],
            grants=[GRANT_CLIENT_CREDENTIALS, *([GRANT_TOKEN_EXCHANGE] if calls else [])],
            exchange_audiences=[name] if calls else [],
        )

    def user(self, name: str, *scopes: str) -> AccessTokens:
        """Create a user who may call `reports`; return the source of the user's tokens."""
        username, password = f"{name}-{self._suffix}", secrets.token_urlsafe(16)
        user = User(username=username, audiences=["reports"], scopes=scopes)
        made = self.admin.create_user(user, password=password)
        self._made.callback(self.admin.delete_user, made.user_id)
        found = self.environment
        tokens = AccessTokens.by_password(
            username, password, target=found.target, audience="reports", options=found.options()
        )
        return self._made.enter_context(tokens)

    def close(self) -> None:
        """Delete everything that was created."""
        self._made.close()

    def _variables(self) -> dict[str, str]:
        found = {
            "IDENTITY_TARGET": self.environment.target,
            "IDENTITY_ISSUER": ",".join(self.environment.issuers),
        }
        return found | ({"IDENTITY_CA": str(self.environment.ca_file)} if self.environment.ca_file else {})


@contextmanager
def principals() -> Iterator[Principals]:
    """Act as the administrator that the environment names, or else as that of `make run` in this folder."""
    environment = Environment.read()
    if not environment.has_sign_in:
        demo = json.loads(DEMO_FILE.read_text())
        environment = Environment.read(
            {"IDENTITY_ISSUER": "http://127.0.0.1:8080"}
            | os.environ
            | {"IDENTITY_CLIENT_ID": demo["admin_id"], "IDENTITY_CLIENT_SECRET": demo["admin_secret"]}
        )
    options = environment.options()
    with (
        AccessTokens.from_env(scopes=["identity.admin"], environment=environment) as tokens,
        AdminClient(environment.target, options=replace(options, bearer=tokens)) as admin,
    ):
        made = Principals(admin=admin, environment=environment)
        try:
            yield made
        finally:
            made.close()
