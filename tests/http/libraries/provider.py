"""A service as an OAuth library uses it: an https URL, a certificate authority, and credentials."""

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from joserfc.jwk import RSAKey

from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.principals import Grant
from identityapi.v1 import identity_service_pb2 as pb
from tests.jwts import PartyKey, assertion_claims, key_set
from tests.rpc.world import API, PASSWORD, World, bearer
from tests.tls import Certifier, Holder


@cache
def _platform_key() -> PartyKey:
    """Return an RSA key that all tests share, since making one takes a tenth of a second."""
    return PartyKey.make("RS256", "ci")


@dataclass(frozen=True, kw_only=True)
class FederatedClient:
    """A client without a credential of its own: a workload for which its platform signs assertions."""

    world: World = field(repr=False)
    audience: str
    """The issuer name of the service, which is the audience of the assertions."""
    issuer: str = "https://ci.example"
    subject: str = "pipeline"
    client_id: str = "builder"
    key: PartyKey = field(default_factory=_platform_key, repr=False)

    @property
    def private_pem(self) -> str:
        """Return the private key of the platform in PEM, for libraries that sign assertions themselves."""
        return RSAKey.import_key(json.loads(self.key.private_jwk)).as_pem(private=True).decode()

    def assertion(self) -> str:
        changes = {"iss": self.issuer, "aud": self.audience}
        return self.key.jwt(assertion_claims(self.subject, self.world.clock.now(), **changes))


@dataclass(frozen=True, kw_only=True)
class Provider:
    """The facts that a library is given about the service. It discovers all others from the metadata."""

    world: World = field(repr=False)
    issuer: str
    certifier: Certifier = field(repr=False)
    audience: str = API
    username: str = "ana"
    password: str = field(default=PASSWORD, repr=False)

    @cached_property
    def credentials(self) -> tuple[str, str]:
        """Return the id and the secret of the client `reports`, which is created at first use."""
        return self.new_client()

    def new_client(self, client_id: str = "reports", **changes: object) -> tuple[str, str]:
        """Return the id and the secret of a new client, which may use every grant by default."""
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

    @property
    def ca_file(self) -> Path:
        """Return the file of the authority that issued the service's certificate, in PEM."""
        return self.certifier.file

    def new_certificate_client(self, client_id: str = "holder") -> Holder:
        """Return the certificate of a new client that authenticates itself with it, and has no secret."""
        name = f"{client_id}.example"
        self.new_client(client_id, public=True, certificates=(f"dns:{name}",))
        return self.certifier.client(client_id, name)

    def new_key_client(self, key: PartyKey, client_id: str = "signer") -> str:
        """Return the id of a new client that authenticates itself with this key, and has no secret."""
        self.new_client(client_id, public=True, public_keys=(key.public_jwk,))
        return client_id

    @cached_property
    def federated(self) -> FederatedClient:
        """Return the client `builder`. The service trusts the issuer of its assertions once this returns."""
        made = FederatedClient(world=self.world, audience=self.issuer)
        self.world.new_client(made.client_id, public=True)
        rule = TrustRule(claims={"sub": made.subject}, client_id=PrincipalId(made.client_id))
        keys = key_set(made.key.public())
        trusted = TrustedIssuer(issuer=made.issuer, jwks=keys, rules=(rule,))
        self.world.store_admin.administrator.issuers.create(trusted)
        caught_up = pb.VerifyRequest(token="x", any_audience=True, strong=True)
        self.world.stub.Verify(caught_up, metadata=bearer(self.world.admin_token()))
        return made

    def new_public_client(self, client_id: str = "app") -> str:
        """Return the id of a new client without any credential (a public client)."""
        self.new_client(
            client_id, public=True, grants=(Grant.PASSWORD, Grant.REFRESH_TOKEN), scopes=("read", "write")
        )
        return client_id
