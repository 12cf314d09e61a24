"""A service as an OAuth library meets it: an https URL, the authority of its certificate, and credentials."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from identity_service.domain.principals import Grant
from tests.jwts import PartyKey
from tests.rpc.world import API, PASSWORD, World


@dataclass(frozen=True, kw_only=True)
class Provider:
    """The only facts that a library is given are these; the rest it discovers."""

    world: World = field(repr=False)
    issuer: str
    ca_file: Path
    audience: str = API
    username: str = "ana"
    password: str = field(default=PASSWORD, repr=False)

    @cached_property
    def credentials(self) -> tuple[str, str]:
        """Return the id and the secret of the client `reports`, which is made by the first call."""
        return self.new_client()

    def new_client(self, client_id: str = "reports", **changes: object) -> tuple[str, str]:
        """Return the id and the secret of a new client that may use every grant."""
        grants = (Grant.CLIENT_CREDENTIALS, Grant.PASSWORD, Grant.REFRESH_TOKEN, Grant.TOKEN_EXCHANGE)
        made = self.world.new_client(
            client_id,
            **(
                {
                    "grants": grants,
                    "scopes": ("read", "write", "identity.verify"),
                    "exchange_audiences": (API,),
                }
                | changes
            ),
        )
        return made.id, made.credential.client_secret.client_secret

    def new_key_client(self, key: PartyKey, client_id: str = "signer") -> str:
        """Return the id of a new client that has this key instead of a secret."""
        self.new_client(client_id, public=True, public_keys=(key.public_jwk,))
        return client_id

    def new_public_client(self, client_id: str = "app") -> str:
        """Return the id of a new client without any credential of its own."""
        self.new_client(
            client_id, public=True, grants=(Grant.PASSWORD, Grant.REFRESH_TOKEN), scopes=("read", "write")
        )
        return client_id
