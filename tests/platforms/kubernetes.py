"""A stand-in for a kube-apiserver, as a client that fetches its keys sees it. The module asserts nothing.

It follows these files of kubernetes/kubernetes and of its router emicklei/go-restful:

- pkg/routes/openidmetadata.go: paths, types and `Cache-Control`, and that each path has one content type;

- go-restful jsr311.go and route.go: 406 if the `Accept` of a request has neither that type nor `*/*`;

- pkg/serviceaccount/openidmetadata.go and jwt.go: members of keys, ids of keys, the header of a token;

- pkg/serviceaccount/claims.go: the claims of a token that is bound to a pod;

- apiserver's `--anonymous-auth` and the role `system:service-account-issuer-discovery`, which is bound to the
group `system:serviceaccounts`: without a token the status is 401 or 403, with the token of any pod 200.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK

from identity_service.domain.ids import base64url
from tests.issuer_server import IssuerServer
from tests.jwts import PartyKey, key_set

JWKS_PATH: Final = "/openid/v1/jwks"
METADATA_PATH: Final = "/.well-known/openid-configuration"
_TYPES: Final = {JWKS_PATH: "application/jwk-set+json", METADATA_PATH: "application/json"}


def signing_key(algorithm: str = "RS256") -> PartyKey:
    """Return a key whose id is the digest of its public part, as Kubernetes computes it."""
    made = PartyKey.make(algorithm)
    der = PyJWK(made.public()).key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_id = base64url(hashlib.sha256(der).digest())
    return PartyKey(key_id=key_id, algorithm=algorithm, given=made.private_jwk)


@cache
def _usual_key() -> PartyKey:
    """Return the key of servers for which the test chooses none; generating one takes 0.1 s."""
    return signing_key()


@dataclass(kw_only=True)
class KubeApiserver(IssuerServer):
    """A stand-in for a kube-apiserver; the test decides which keys it has and who may read them."""

    issuer: str = "https://kubernetes.default.svc.cluster.local"
    keys: list[PartyKey] = field(default_factory=lambda: [_usual_key()])
    more_keys: list[Mapping[str, Any]] = field(default_factory=list)
    """Keys that are published after those of `keys`, as JWKs."""
    tokens: set[str] = field(default_factory=set)
    """The tokens of pods that the server accepts."""
    anonymous: bool = True
    """True if a request without a token counts as `system:anonymous`, which may not read the keys."""

    @property
    def url(self) -> str:
        return self.origin + JWKS_PATH

    def answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme and (scheme.lower() != "bearer" or token not in self.tokens):
            return _status(401, "Unauthorized", "Unauthorized")
        if not scheme:
            if not self.anonymous:
                return _status(401, "Unauthorized", "Unauthorized")
            why = f'forbidden: User "system:anonymous" cannot get path "{path}"'
            return _status(403, "Forbidden", why)
        if path not in _TYPES:
            return 404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n"
        if not _accepts(headers.get("accept", "*/*"), _TYPES[path]):
            text = f"406: Not Acceptable\n\nAvailable representations: {_TYPES[path]}"
            return 406, {"Content-Type": "text/plain; charset=utf-8"}, text.encode()
        body = self._key_set() if path == JWKS_PATH else self._metadata()
        return 200, {"Content-Type": _TYPES[path], "Cache-Control": "public, max-age=3600"}, body.encode()

    def token(self, now: datetime, service_account: str, *, audience: str, **changes: Any) -> str:
        """Return a token of the pod `<name>-5d4f` for `<namespace>:<name>`, with these claims changed."""
        namespace, _, name = service_account.partition(":")
        issued = int(now.timestamp())
        claims = {
            "aud": [audience],
            "exp": issued + 3600,
            "iat": issued,
            "iss": self.issuer,
            "jti": "7a5f1f0c-4f6f-4f0e-9d6a-3c1f0a5a7a52",
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "node-1", "uid": "3f1b9d2e-1c1e-4d6c-8a43-2a0b8a1d9f11"},
                "pod": {"name": f"{name}-5d4f", "uid": "9c2e6b8f-27c4-4a0e-bf0c-5e1f5d8b7a10"},
                "serviceaccount": {"name": name, "uid": "7a1d0f3c-9d0b-4c57-8b0e-9f1a2c3d4e5f"},
                "warnafter": issued + 3607,
            },
            "nbf": issued,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        key = self.keys[0]
        return key.jwt(claims | changes, {"alg": key.algorithm, "kid": key.key_id})

    def _key_set(self) -> str:
        return key_set(*(key.public(use="sig") for key in self.keys), *self.more_keys)

    def _metadata(self) -> str:
        return json.dumps(
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.origin}{JWKS_PATH}",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": sorted({key.algorithm for key in self.keys}),
            }
        )


def later(now: datetime) -> datetime:
    """Return the time at which the kubelet renews a token of one hour: after four fifths of it."""
    return now + timedelta(minutes=48)


def _accepts(accept: str, produced: str) -> bool:
    names = (each.partition(";")[0].strip(" ") for each in accept.split(","))
    return any(name in ("*/*", produced) for name in names)


def _status(code: int, reason: str, message: str) -> tuple[int, Mapping[str, str], bytes]:
    """Return an error as the JSON of `metav1.Status`."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return (
        code,
        {"Content-Type": "application/json", "Cache-Control": "no-cache, private"},
        json.dumps(body).encode(),
    )
