"""The error codes of the OAuth endpoints: a request over HTTP causes each of them."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from identity_service.domain.ids import base64url
from identity_service.domain.principals import Grant
from identity_service.http_api.paths import INTROSPECT, REVOKE, TOKEN
from tests.dpop_proofs import dpop_proof
from tests.http.site import Answer, Site
from tests.jwts import PartyKey
from tests.rpc.world import PASSWORD

BASIC, BEARER, DPOP = "Basic ", "Bearer ", "DPoP "


class Wrong(NamedTuple):
    """A request to an OAuth endpoint, and the status and the error code that it must get."""

    path: str
    status: int
    code: str
    params: dict[str, str]
    authorization: str = ""
    proof: str = ""

    def sent_to(self, site: Site) -> Answer:
        sent = {"authorization": self.authorization, "dpop": self.proof}
        headers = {name: value for name, value in sent.items() if value}
        return site.post(self.path, urlencode(self.params), **headers)


class Clients:
    """Clients that lack some permissions, with the credentials and tokens for requests that are refused."""

    def __init__(self, site: Site) -> None:
        may_use = (Grant.CLIENT_CREDENTIALS, Grant.REFRESH_TOKEN)
        self.reports = self._new(site, "reports", grants=may_use)
        self.portal = self._new(site, "portal", grants=(Grant.PASSWORD,))
        self.gateway = self._new(site, "gateway", scopes=("read", "identity.verify"))
        self._site, self._key = site, PartyKey.make()
        site.world.new_user()
        grant = {"grant_type": "client_credentials"}
        self.token = Wrong(TOKEN, 200, "", grant, self.reports).sent_to(site).json["access_token"]
        wanted = grant | {"audience": site.world.settings.service_audience}
        operator = self._new(
            site, "operator", audiences=(site.world.settings.service_audience,), scopes=("identity.revoke",)
        )
        self.without_verify = (
            BEARER
            + Wrong(TOKEN, 200, "", wanted | {"scope": "identity.revoke"}, operator)
            .sent_to(site)
            .json["access_token"]
        )

    def proof(self, path: str, **changes: Any) -> str:
        """Return a DPoP proof for this path, by default without the nonce that the service demands."""
        uri = f"{self._site.world.settings.issuer}{path}"
        return dpop_proof(self._key, self._site.world.clock.now(), htu=uri, **changes)

    def _new(self, site: Site, client_id: str, **changes: object) -> str:
        secret = site.world.new_client(client_id, **changes).credential.client_secret
        return BASIC + b64encode(f"{secret.client_id}:{secret.client_secret}".encode()).decode()


def wrongs(clients: Clients) -> Iterator[Wrong]:
    grant = {"grant_type": "client_credentials"}
    user = {"grant_type": "password", "username": "ana", "password": PASSWORD}
    yield Wrong(TOKEN, 400, "invalid_request", {})
    yield Wrong(TOKEN, 400, "invalid_request", grant | {"client_secret": "x"}, clients.reports)
    yield Wrong(TOKEN, 400, "invalid_grant", user | {"password": "wrong"}, clients.portal)
    refresh = {"grant_type": "refresh_token", "refresh_token": "idrt_x"}
    yield Wrong(TOKEN, 400, "invalid_grant", refresh, clients.reports)
    yield Wrong(TOKEN, 400, "unauthorized_client", user, clients.reports)
    yield Wrong(TOKEN, 400, "unsupported_grant_type", {"grant_type": "authorization_code"}, clients.reports)
    yield Wrong(TOKEN, 400, "invalid_scope", grant | {"scope": "everything"}, clients.reports)
    yield Wrong(TOKEN, 400, "invalid_target", grant | {"audience": "other"}, clients.reports)
    yield Wrong(TOKEN, 401, "invalid_client", grant)
    yield Wrong(TOKEN, 401, "invalid_client", grant | {"client_id": "reports", "client_secret": "wrong"})
    yield Wrong(TOKEN, 400, "invalid_dpop_proof", grant, clients.reports, "no proof")
    yield Wrong(TOKEN, 400, "use_dpop_nonce", grant, clients.reports, clients.proof(TOKEN))
    token = {"token": clients.token}
    yield Wrong(INTROSPECT, 400, "invalid_request", {}, clients.gateway)
    yield Wrong(INTROSPECT, 400, "unauthorized_client", token, clients.reports)
    yield Wrong(INTROSPECT, 401, "invalid_client", token)
    yield Wrong(INTROSPECT, 401, "invalid_token", token, BEARER + clients.token)
    bound = f"{DPOP}{clients.token}"
    yield Wrong(INTROSPECT, 401, "invalid_dpop_proof", token, bound, "no proof")
    proof = clients.proof(INTROSPECT, ath=base64url(sha256(clients.token.encode()).digest()))
    yield Wrong(INTROSPECT, 401, "use_dpop_nonce", token, bound, proof)
    yield Wrong(INTROSPECT, 403, "insufficient_scope", token, clients.without_verify)
    yield Wrong(REVOKE, 400, "invalid_request", {}, clients.reports)
    yield Wrong(REVOKE, 400, "unauthorized_client", token, clients.portal)
    yield Wrong(REVOKE, 400, "unsupported_token_type", {"token": "e30.e30.e30.e30.e30"}, clients.reports)
    yield Wrong(REVOKE, 401, "invalid_client", token)


def described(site: Site) -> set[tuple[str, int, str]]:
    """Return the path, status and code of each client error in the OpenAPI description."""
    document = site.get("/openapi.json").json
    found = set()
    for path in (TOKEN, INTROSPECT, REVOKE):
        for status in {"400", "401", "403"} & document["paths"][path]["post"]["responses"].keys():
            answer: Any = document["paths"][path]["post"]["responses"][status]
            if "$ref" in answer:
                answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
            codes = answer["content"]["application/json"]["schema"]["properties"]["error"]["enum"]
            found |= {(path, int(status), code) for code in codes}
    return found


@pytest.mark.settings(dpop_require_nonce=True)
def test_every_error_that_is_described_is_given_and_has_the_headers_that_it_must_have(site: Site) -> None:
    expected = list(wrongs(Clients(site)))
    assert {(wrong.path, wrong.status, wrong.code) for wrong in expected} == described(site)

    for wrong in expected:
        answer = wrong.sent_to(site)

        assert (answer.status, answer.json["error"]) == (wrong.status, wrong.code), wrong
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        challenge = answer.headers.get("www-authenticate", "")
        scheme = "Basic " if wrong.code == "invalid_client" else DPOP if wrong.proof else BEARER
        assert challenge.startswith(f"{scheme}realm=") if wrong.status in (401, 403) else not challenge


@pytest.mark.settings(attempts_per_username=1)
def test_a_client_that_tries_too_many_passwords_is_told_to_wait(site: Site) -> None:
    clients = Clients(site)
    guess = Wrong(
        TOKEN,
        429,
        "temporarily_unavailable",
        {"grant_type": "password", "username": "ana", "password": "wrong"},
        clients.portal,
    )
    assert guess.sent_to(site).status == 400

    answer = guess.sent_to(site)

    assert (answer.status, answer.json["error"]) == (guess.status, guess.code)
    assert int(answer.headers["retry-after"]) > 0
