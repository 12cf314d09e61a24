"""Facts about real platforms: members of keys, response headers, claims of tokens.

Keys and values are made up. The names of members and claims come from the sources that are named beside each
platform. The module asserts nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from identity_service.domain.ids import base64url
from tests.issuer_server import IssuerServer
from tests.jwts import PartyKey, key_set

KEY: Final = PartyKey.make("RS256", "38826b17-6a30-5f9b-b169-8beb8202f723")
"""The key that signs the tokens of this module."""
OTHER: Final = PartyKey.make("RS256", "ykNaY4qM_ta4k2TgZOCEYLkcYlA")
"""A key that is published beside the signing key, as platforms do when they rotate keys."""
SVID_KEY: Final = PartyKey.make("ES256", "rPpr7f1WIqoDIbeBAwzhUSiOzUvSgPrS")
_CHAIN: Final = ["MIIDKzCCAhOgAwIBAgIUDnwm6eRIqGFA3o/P1oBrChvx/nowDQYJKoZIhvcNAQELBQAwJTEjMCEGA1UEAwwa"]
_THUMBPRINT: Final = base64url(bytes(range(20)))

Make = Callable[[datetime], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A platform that issues tokens, and the rule with which a recipe of the documentation trusts it."""

    issuer: str
    path: str
    """The path of the key set."""
    headers: Mapping[str, str]
    keys: tuple[Mapping[str, Any], ...]
    more: Mapping[str, Any] = field(default_factory=dict)
    """Members of the key set beside `keys`."""
    signer: PartyKey = KEY
    token_header: Mapping[str, Any]
    claims: Make
    rule: Mapping[str, str]
    wrong: Mapping[str, Any]
    """Claims of a token of the same platform that is for another workload."""

    def publish(self, server: IssuerServer, *more_keys: Mapping[str, Any]) -> None:
        """Have the server answer as this platform does, with further keys in its set."""
        text = key_set(*self.keys, *more_keys)
        for name, value in self.more.items():
            text = f'{text[:-1]}, "{name}": {value}}}'
        server.headers, server.body = self.headers, text.encode()

    def token(self, now: datetime, **changes: Any) -> str:
        """Return a token for this service as the platform signs it; a claim that is None is left out."""
        merged = {**self.claims(now), **changes}
        return self.signer.jwt(
            {name: value for name, value in merged.items() if value is not None}, self.token_header
        )


def _times(now: datetime, *, before: int, lifetime: int) -> dict[str, int]:
    issued = int(now.timestamp())
    return {"iat": issued, "nbf": issued - before, "exp": issued + lifetime}


def _with_chain(key: PartyKey, **changes: object) -> dict[str, Any]:
    return key.public(x5c=_CHAIN, x5t=_THUMBPRINT, **changes)


GITHUB: Final = Platform(
    # docs.github.com "About security hardening with OpenID Connect" (claims), rgl/github-actions-validate-jwt
    # (header and times of a real token; its set has x5c and x5t).
    issuer="https://token.actions.githubusercontent.com",
    path="/.well-known/jwks",
    headers={"Content-Type": "application/json; charset=utf-8"},
    keys=(_with_chain(KEY, use="sig"), _with_chain(OTHER, use="sig")),
    token_header={"typ": "JWT", "alg": "RS256", "x5t": _THUMBPRINT, "kid": KEY.key_id},
    claims=lambda now: {
        **_times(now, before=300, lifetime=21600),
        "iss": "https://token.actions.githubusercontent.com",
        "aud": "identity-service",
        "sub": "repo:example/shop:ref:refs/heads/main",
        "jti": "58772c9f-4d75-4fc8-8956-7dd522569a00",
        "actor": "somebody",
        "event_name": "push",
        "job_workflow_ref": "example/shop/.github/workflows/deploy.yml@refs/heads/main",
        "ref": "refs/heads/main",
        "ref_protected": "false",
        "ref_type": "branch",
        "repository": "example/shop",
        "repository_id": "957014466",
        "repository_owner": "example",
        "repository_owner_id": "43356",
        "repository_visibility": "private",
        "run_attempt": "1",
        "runner_environment": "github-hosted",
        "sha": "0f661a4a011d77cb21fa4dc7013d9b6f928666ed",
    },
    rule={"repository_id": "957014466", "ref": "refs/heads/main", "event_name": "push"},
    wrong={"sub": "repo:example/other:ref:refs/heads/main", "repository_id": "957014467"},
)

GITLAB: Final = Platform(
    # gitlabhq app/controllers/jwks_controller.rb (members, `expires_in`), lib/gitlab/ci/jwt_v2.rb (claims).
    issuer="https://gitlab.com",
    path="/oauth/discovery/keys",
    headers={
        "Content-Type": "application/json; charset=utf-8",
        "Cache-Control": "max-age=86400, public, must-revalidate, no-transform",
    },
    keys=(KEY.public(use="sig"), OTHER.public(use="sig")),
    token_header={"kid": KEY.key_id, "typ": "JWT", "alg": "RS256"},
    claims=lambda now: {
        **_times(now, before=5, lifetime=3600),
        "iss": "https://gitlab.com",
        "aud": "identity-service",
        "sub": "project_path:example/shop:ref_type:branch:ref:main",
        "jti": "b2d6a5b1-0a1f-4a9c-9a51-2f0c5f1f2a33",
        "namespace_id": "72",
        "namespace_path": "example",
        "project_id": "20",
        "project_path": "example/shop",
        "user_id": "1",
        "user_login": "somebody",
        "pipeline_source": "push",
        "ref": "main",
        "ref_type": "branch",
        "ref_protected": "true",
        "groups_direct": ["example"],
    },
    rule={"project_id": "20", "ref_protected": "true", "ref": "main", "ref_type": "branch"},
    wrong={"project_id": "21"},
)

_TENANT: Final = "https://login.microsoftonline.com/8056f686-b27e-4792-950e-b2770b2a9a2f"
ENTRA: Final = Platform(
    # learn.microsoft.com "Access tokens in the Microsoft identity platform" (keys with `issuer`, claims), and
    # the set of panva/wellknown, issuers/entra-common: no key has `alg`.
    issuer=f"{_TENANT}/v2.0",
    path="/8056f686-b27e-4792-950e-b2770b2a9a2f/discovery/v2.0/keys",
    headers={"Content-Type": "application/json; charset=utf-8", "Cache-Control": "max-age=86400, private"},
    keys=tuple(_with_chain(key, alg=None, use="sig", issuer=f"{_TENANT}/v2.0") for key in (OTHER, KEY)),
    token_header={"typ": "JWT", "alg": "RS256", "kid": KEY.key_id},
    claims=lambda now: {
        **_times(now, before=0, lifetime=4000),
        "iss": f"{_TENANT}/v2.0",
        "aud": "1d5f1b3a-7c4d-4a0e-9a52-6f2f3c1e0b77",
        "sub": "c0ffee00-1b2d-4c3e-9f5a-6b7c8d9e0f11",
        "oid": "c0ffee00-1b2d-4c3e-9f5a-6b7c8d9e0f11",
        "azp": "5e1f2d3c-4b5a-4697-8877-665544332211",
        "azpacr": "2",
        "aio": "E2NgYBAT",
        "rh": "0.AXEA",
        "tid": "8056f686-b27e-4792-950e-b2770b2a9a2f",
        "uti": "n8oGmZ5nHkS5Wc0AAA",
        "ver": "2.0",
    },
    rule={
        "azp": "5e1f2d3c-4b5a-4697-8877-665544332211",
        "oid": "c0ffee00-1b2d-4c3e-9f5a-6b7c8d9e0f11",
    },
    wrong={"oid": "11111111-1b2d-4c3e-9f5a-6b7c8d9e0f11"},
)

GOOGLE: Final = Platform(
    # developers.google.com "OpenID Connect" and cloud.google.com "Verify the identity of instances" (claims),
    # and the set of panva/wellknown, issuers/google.
    issuer="https://accounts.google.com",
    path="/oauth2/v3/certs",
    headers={
        "Content-Type": "application/json; charset=UTF-8",
        "Cache-Control": "public, max-age=21600, must-revalidate, no-transform",
    },
    keys=(OTHER.public(use="sig"), KEY.public(use="sig")),
    token_header={"alg": "RS256", "kid": KEY.key_id, "typ": "JWT"},
    claims=lambda now: {
        "iss": "https://accounts.google.com",
        "aud": "identity-service",
        "azp": "103200000000000000001",
        "sub": "103200000000000000001",
        "email": "reports@example.iam.gserviceaccount.com",
        "email_verified": True,
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + 3600,
    },
    rule={"sub": "103200000000000000001"},
    wrong={"sub": "103200000000000000002"},
)


def _svid_claims(now: datetime) -> Mapping[str, Any]:
    return {
        "aud": ["identity-service"],
        "exp": int(now.timestamp()) + 300,
        "iat": int(now.timestamp()),
        "iss": "https://oidc.spire.example.org",
        "sub": "spiffe://example.org/billing/reports",
    }


_SVID_RULE: Final = {"sub": "spiffe://example.org/billing/*"}
SPIFFE: Final = Platform(
    # spiffe/go-spiffe v2/bundle/spiffebundle (members of a bundle), spiffe/spire pkg/server/endpoints/bundle,
    # SPIFFE Trust Domain and Bundle, section 4: X.509 roots have no `kid`, and neither kind has `alg`.
    issuer="https://oidc.spire.example.org",
    path="/",
    headers={"Content-Type": "application/json"},
    keys=(
        {
            name: value
            for name, value in PartyKey.make("ES384").public(use="x509-svid", x5c=_CHAIN).items()
            if name not in ("kid", "alg")
        },
        SVID_KEY.public(use="jwt-svid", alg=None),
        PartyKey.make("ES256", "C6vs25welZOx6WksNYfbMfiw9l96pMnD").public(use="jwt-svid", alg=None),
    ),
    more={"spiffe_sequence": 7, "spiffe_refresh_hint": 300},
    signer=SVID_KEY,
    token_header={"alg": "ES256", "kid": SVID_KEY.key_id, "typ": "JWT"},
    claims=_svid_claims,
    rule=_SVID_RULE,
    wrong={"sub": "spiffe://example.org/shipping/reports"},
)

SPIRE_DISCOVERY: Final = Platform(
    # spiffe/spire support/oidc-discovery-provider/handler.go: `alg` set, `use` absent unless configured.
    issuer="https://oidc.spire.example.org",
    path="/keys",
    headers={
        "Content-Type": "application/json",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Expires": "0",
    },
    keys=(SVID_KEY.public(use=None),),
    signer=SVID_KEY,
    token_header={"alg": "ES256", "kid": SVID_KEY.key_id, "typ": "JWT"},
    claims=_svid_claims,
    rule=_SVID_RULE,
    wrong={"sub": "spiffe://other.org/billing/reports"},
)

EKS: Final = Platform(
    # docs.aws.amazon.com "Enable IAM roles for service accounts": the cluster's issuer publishes at /keys,
    # publicly; tokens as those of any cluster (kubernetes/kubernetes pkg/serviceaccount/claims.go).
    issuer="https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF",
    path="/id/0123456789ABCDEF0123456789ABCDEF/keys",
    headers={"Content-Type": "application/json"},
    keys=(KEY.public(use="sig"), OTHER.public(use="sig")),
    token_header={"alg": "RS256", "kid": KEY.key_id},
    claims=lambda now: {
        **_times(now, before=0, lifetime=3600),
        "iss": "https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF",
        "aud": ["identity-service"],
        "sub": "system:serviceaccount:billing:reports",
        "kubernetes.io": {"namespace": "billing", "serviceaccount": {"name": "reports", "uid": "7a1d"}},
    },
    rule={"sub": "system:serviceaccount:billing:reports"},
    wrong={"sub": "system:serviceaccount:billing:other"},
)

PLATFORMS: Final[Mapping[str, Platform]] = {
    "GitHub Actions": GITHUB,
    "GitLab": GITLAB,
    "Entra": ENTRA,
    "Google": GOOGLE,
    "SPIFFE bundle": SPIFFE,
    "SPIRE discovery": SPIRE_DISCOVERY,
    "EKS": EKS,
}
