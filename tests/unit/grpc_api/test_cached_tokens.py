"""The caches of tokens count the memory of custom claims, which is up to 25 times that of their text."""

from typing import Any

import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.secret import Secret
from identity_service.grpc_api.ext_authz.servicer import ExtAuthzServicer
from identity_service.grpc_api.ext_authz.wire.auth_pb2 import CheckRequest
from identity_service.grpc_api.verify import VerifyServicer
from identity_service.services.authenticate import ClientSecret
from identity_service.services.issue import IssueRequest
from identity_shared.lru_cache import LruCache, weight_of_json
from identityapi.v1 import identity_service_pb2 as pb
from tests.service_site import open_service_site

CLAIMS: dict[str, list[list[int]]] = {"a": [[] for _ in range(500)]}


def test_a_cached_token_weighs_as_much_as_its_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[int] = []
    put = LruCache.put

    def noted(cache: LruCache[Any, Any], key: Any, value: Any, weight: int) -> None:
        weights.append(weight)
        put(cache, key, value, weight)

    with open_service_site() as site:
        client = site.new_client()
        credential = ClientSecret(client_id=PrincipalId(client), secret=Secret(site.secrets[client]))
        token = site.use.issuer.issue(IssueRequest(credential=credential, claims=CLAIMS)).access_token
        monkeypatch.setattr(LruCache, "put", noted)
        request = pb.VerifyRequest(token=token, any_audience=True)
        verify = VerifyServicer(site.use.verifier, site.replica, cache_bytes=2**20)
        assert pb.VerifyResponse.FromString(verify.verify(request, b"bytes")).HasField("verified")
        check = CheckRequest()
        check.attributes.context_extensions["audience"] = "api"
        check.attributes.request.http.headers["authorization"] = f"Bearer {token}"
        ExtAuthzServicer(site.use.verifier, {}).check(check, b"")

    assert len(weights) == 3
    assert min(weights) > weight_of_json(CLAIMS)
