"""The OpenAPI description agrees with the endpoints, the metadata documents and the table of errors."""

import json
from typing import Any

import pytest

from identity_service.http_api import paths
from identity_service.http_api.health import HealthEndpoints
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.oauth.errors import ANSWER_OF
from identity_service.http_api.oauth.metadata import MetadataConfig, authorization_server_metadata
from identity_service.http_api.openapi.description import describe
from identity_service.http_api.routes import routes
from tests.unit.http_api.oauth_site import PEER, Site

EVERYTHING = MetadataConfig(
    issuer="https://id.example",
    scopes=frozenset(),
    algorithms=("ES256",),
    public_clients=True,
    trusted_issuers=True,
)


@pytest.fixture
def described() -> Any:
    return json.loads(json.dumps(describe("https://id.example")))


def resolved(described: Any, value: Any) -> Any:
    """Return the value that a `$ref` names, or the value itself if it is no reference."""
    if "$ref" not in value:
        return value
    found = described
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def codes_of(described: Any, path: str) -> set[str]:
    """Return the OAuth error codes that the description lists for an endpoint."""
    answers = described["paths"][path]["post"]["responses"]
    return {
        code
        for status, answer in answers.items()
        if status >= "400"
        for code in resolved(described, answer)["content"]["application/json"]["schema"]["properties"][
            "error"
        ]["enum"]
    }


def test_every_route_is_described_with_its_method(described: Any, site: Site) -> None:
    served = routes(
        "https://id.example",
        lambda _: HttpResponse(status=200),
        HealthEndpoints(lambda: True),
        site.endpoints,
        lambda: EVERYTHING,
    )

    assert {(path, method.upper()) for path, item in described["paths"].items() for method in item} == {
        (route.path, method) for route in served for method in route.methods
    }


@pytest.mark.parametrize("issuer", ["https://id.example/tenant", "https://id.example/tenant/"])
def test_a_service_with_a_path_is_described_below_it(issuer: str, site: Site) -> None:
    served = routes(
        issuer,
        lambda _: HttpResponse(status=200),
        HealthEndpoints(lambda: True),
        site.endpoints,
        lambda: EVERYTHING,
    )
    (route,) = [route for route in served if route.path == f"/tenant{paths.OPENAPI}"]
    request = HttpRequest(method="GET", path=route.path, query=b"", headers={}, body=b"", origin=PEER)
    document = json.loads(route.endpoint(request).body)

    assert document["servers"] == [{"url": "https://id.example/tenant"}]
    flows = document["components"]["securitySchemes"]["accessToken"]["flows"]
    assert flows["clientCredentials"]["tokenUrl"] == "https://id.example/tenant/oauth2/token"


def test_the_grants_are_those_of_the_metadata(described: Any) -> None:
    forms = described["components"]["schemas"]["TokenForm"]["oneOf"]

    assert [form["properties"]["grant_type"]["const"] for form in forms] == authorization_server_metadata(
        EVERYTHING
    )["grant_types_supported"]


def test_the_error_codes_are_those_of_the_table(described: Any) -> None:
    described_codes = set.union(
        *(codes_of(described, path) for path in (paths.TOKEN, paths.INTROSPECT, paths.REVOKE))
    )

    assert {answer.code for answer in ANSWER_OF.values()} <= described_codes


def test_every_reference_leads_somewhere(described: Any) -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert resolved(described, value) is not None
            for each in value.values():
                check(each)
        elif isinstance(value, list):
            for each in value:
                check(each)

    check({name: value for name, value in described.items() if name != "info"})
