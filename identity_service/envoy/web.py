"""Builds the part of Envoy's configuration that serves gRPC-Web to the browsers of some origins."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from identity_service.envoy.limits import TYPES
from identity_service.transport.web import MAX_AGE, METHOD, PATHS, REQUEST_HEADERS, RESPONSE_HEADERS

_CORS: Final = "envoy.filters.http.cors"


def web_filters(origins: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """Return the HTTP filters that go before the one that runs Python."""
    return [
        _filter("rbac", "rbac.v3.RBAC", rules={"action": "DENY", "policies": {"origin": _foreign(origins)}}),
        _filter("cors", "cors.v3.Cors"),
        _filter("grpc_web", "grpc_web.v3.GrpcWeb"),
    ]


def with_web_routes(routes: Mapping[str, Any], origins: Sequence[str]) -> Mapping[str, Any]:
    """Return the route configuration with the paths of gRPC-Web, and the policy for the filter cors."""
    (host,) = routes["virtual_hosts"]
    paths = [{"match": {"prefix": path}, "route": {"cluster": "unused"}} for path in PATHS]
    policy = {
        "@type": f"{TYPES}filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in origins],
        "allow_methods": METHOD,
        "allow_headers": ", ".join(REQUEST_HEADERS),
        "expose_headers": ", ".join(RESPONSE_HEADERS),
        "max_age": str(MAX_AGE),
        "forward_not_matching_preflights": False,
    }
    web = {**host, "routes": [*host["routes"], *paths], "typed_per_filter_config": {_CORS: policy}}
    return {**routes, "virtual_hosts": [web]}


def _foreign(origins: Sequence[str]) -> Mapping[str, Any]:
    """Return a policy for the preflights and calls of pages whose origin is not one of these."""
    call = {
        "header": {
            "name": "content-type",
            "string_match": {"prefix": "application/grpc-web", "ignore_case": True},
        }
    }
    preflight = {"header": {"name": ":method", "string_match": {"exact": "OPTIONS"}}}
    of_web = [{"url_path": {"path": {"prefix": path}}} for path in PATHS]
    known = [{"header": {"name": "origin", "string_match": {"exact": origin}}} for origin in origins]
    return {
        "permissions": [
            {
                "and_rules": {
                    "rules": [{"or_rules": {"rules": of_web}}, {"or_rules": {"rules": [call, preflight]}}]
                }
            }
        ],
        "principals": [
            {
                "and_ids": {
                    "ids": [
                        {"header": {"name": "origin", "present_match": True}},
                        {"not_id": {"or_ids": {"ids": known}}},
                    ]
                }
            }
        ],
    }


def _filter(name: str, kind: str, **fields: Any) -> Mapping[str, Any]:
    return {
        "name": f"envoy.filters.http.{name}",
        "typed_config": {"@type": f"{TYPES}filters.http.{kind}", **fields},
    }
