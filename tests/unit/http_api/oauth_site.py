"""The OAuth endpoints with their real use cases, on a store in memory and a clock that stands still.

The module writes requests. It asserts nothing.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from identity_service.composition.http import oauth_endpoints
from identity_service.domain.origin import Origin
from identity_service.http_api import paths
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.oauth import token
from identity_service.http_api.oauth.endpoints import OAuthEndpoints
from tests.jwts import assertion_claims
from tests.service_site import KEY as KEY
from tests.service_site import OTHER_ISSUER as OTHER_ISSUER
from tests.service_site import PASSWORD as PASSWORD
from tests.service_site import ServiceSite, open_service_site

ISSUER: Final = "https://id.example"
TOKEN_URL: Final = f"{ISSUER}/oauth2/token"
PEER: Final = Origin(peer="192.0.2.7:4711", request_id="r-1")
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Params = Sequence[tuple[str, str]] | Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response with its JSON parsed."""

    status: int
    headers: dict[str, list[str]]
    json: dict[str, Any]

    @property
    def error(self) -> str:
        """Return the OAuth error code of the response; empty if there is none."""
        return str(self.json.get("error", ""))

    @classmethod
    def of(cls, response: HttpResponse) -> "Answer":
        headers: dict[str, list[str]] = {}
        for name, value in response.headers:
            headers.setdefault(name, []).append(value)
        content = json.loads(response.body) if response.body else {}
        return cls(status=response.status, headers=headers, json=content)


@dataclass(kw_only=True)
class Site(ServiceSite):
    """The OAuth endpoints, and the use cases and the store that they use."""

    endpoints: OAuthEndpoints

    def post(
        self,
        path: str,
        params: Params | bytes,
        *,
        origin: Origin = PEER,
        **headers: str | tuple[str, ...],
    ) -> Answer:
        """Send a form. Keyword arguments are headers, such as `authorization`, with `_` for `-`."""
        body = params if isinstance(params, bytes) else urlencode(params).encode()
        sent = {"content_type": "application/x-www-form-urlencoded"} | headers
        request = HttpRequest(
            method="POST",
            path=path,
            query=b"",
            headers={
                name.replace("_", "-"): (value,) if isinstance(value, str) else value
                for name, value in sent.items()
            },
            body=body,
            origin=origin,
        )
        return self.send(request)

    def send(self, request: HttpRequest) -> Answer:
        endpoint = {
            paths.TOKEN: self.endpoints.token,
            paths.INTROSPECT: self.endpoints.introspect,
            paths.REVOKE: self.endpoints.revoke,
        }[request.path]
        return Answer.of(endpoint(request))

    def token(self, params: Params | bytes, **headers: Any) -> Answer:
        return self.post(paths.TOKEN, params, **headers)

    def basic(self, client_id: str) -> str:
        """Return the value of the header Authorization for a client and its secret."""
        return basic(client_id, self.secrets[client_id])

    def client_token(self, client_id: str = "reports", **params: str) -> Answer:
        """Return an access token of the grant client_credentials."""
        return self.token({"grant_type": "client_credentials", **params}, authorization=self.basic(client_id))

    def sign_in(self, client_id: str = "portal", **params: str) -> Answer:
        """Return the tokens of the grant password; the client may be confidential or public."""
        wanted = {"grant_type": "password", "username": "ana", "password": PASSWORD, **params}
        if self.secrets[client_id]:
            return self.token(wanted, authorization=self.basic(client_id))
        return self.token({"client_id": client_id, **wanted})

    def refresh(self, refresh_token: str, client_id: str = "portal", **params: str) -> Answer:
        wanted = {"grant_type": "refresh_token", "refresh_token": refresh_token, **params}
        if self.secrets[client_id]:
            return self.token(wanted, authorization=self.basic(client_id))
        return self.token({"client_id": client_id, **wanted})

    def exchange(self, text: str, client_id: str, **params: str) -> Answer:
        wanted = {
            "grant_type": token.TOKEN_EXCHANGE,
            "subject_token": text,
            "subject_token_type": token.ACCESS_TOKEN_TYPE,
            **params,
        }
        return self.token(wanted, authorization=self.basic(client_id))

    def introspect(self, text: str, client_id: str = "gateway", **params: str) -> Answer:
        return self.post(paths.INTROSPECT, {"token": text, **params}, authorization=self.basic(client_id))

    def revoke(self, text: str, client_id: str, **params: str) -> Answer:
        wanted = {"token": text, **params}
        if self.secrets.get(client_id):
            return self.post(paths.REVOKE, wanted, authorization=self.basic(client_id))
        return self.post(paths.REVOKE, {"client_id": client_id, **wanted})

    def is_active(self, text: str) -> bool:
        """Return whether a token is active, according to the introspection by the client `gateway`."""
        return bool(self.introspect(text, token_type_hint="refresh_token").json["active"])

    def assertion(self, client_id: str, **changes: object) -> str:
        """Return a client's assertion for the token endpoint, or for the `aud` that the test passes."""
        return KEY.jwt(assertion_claims(client_id, self.clock.now(), **({"aud": TOKEN_URL} | changes)))


def basic(client_id: str, secret: str, *, encode: bool = True) -> str:
    """Return the value of the header Authorization, form-encoded as RFC 6749 requires, or not encoded."""
    parts = (quote_plus(client_id), quote_plus(secret)) if encode else (client_id, secret)
    return "Basic " + base64.b64encode(":".join(parts).encode()).decode()


@contextmanager
def running(**changes: Any) -> Iterator[Site]:
    """Yield the endpoints on an initialised store, with a client `gateway` that may introspect tokens."""
    with open_service_site(issuer=ISSUER, **changes) as service:
        endpoints = oauth_endpoints(service.settings, service.use, service.replica)
        site = Site(endpoints=endpoints, **vars(service))
        site.new_client("gateway", scopes={"identity.verify"}, audiences={site.settings.service_audience})
        yield site
