"""Builds the part of Envoy's configuration that serves gRPC-Web to the browsers of some origins."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from identity_service.envoy.limits import TYPES
from identity_service.transport.web import MAX_AGE, METHOD, PATHS, REQUEST_HEADERS, RESPONSE_HEADERS

_CORS: Final = "envoy.filters.http.cors"
_GRPC: Final = "application/grpc"
_WEB: Final = "application/grpc-web"
_TRANSLATED: Final = (_WEB, f"{_WEB}+proto", f"{_WEB}-text", f"{_WEB}-text+proto")
"""The content types that the filter `grpc_web` turns into gRPC; it passes on others unchanged."""
_ANY: Final = ({"any": True},)


def web_filters(origins: Sequence[str], *, native: bool) -> Sequence[Mapping[str, Any]]:
    """Return the HTTP filters that go before the one that runs Python.

    Args:
        origins: the origins of pages that may call.
        native: whether the port serves gRPC itself, too. The filter `grpc_web` turns calls of any path into
            gRPC, so that the application behind it cannot tell them apart.
    """
    refused = {"foreign origins": _foreign(origins), "other paths": _elsewhere()}
    if not native:
        refused["gRPC"] = _native()
    return [
        _filter("rbac", "rbac.v3.RBAC", rules={"action": "DENY", "policies": refused}),
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
    preflight = {"header": {"name": ":method", "string_match": {"exact": "OPTIONS"}}}
    known = [{"header": {"name": "origin", "string_match": {"exact": origin}}} for origin in origins]
    return {
        "permissions": [_all(_any(*_of_web()), _any(_kind(_WEB), preflight))],
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


def _elsewhere() -> Mapping[str, Any]:
    """Return a policy for calls of gRPC-Web whose path is another one, or is one of its paths in disguise.

    The paths are compared as they were sent; the application behind the filter decodes them.
    """
    return {"permissions": [_all(_kind(_WEB), {"not_rule": _any(*_of_web())})], "principals": _ANY}


def _native() -> Mapping[str, Any]:
    """Return a policy for calls that would reach the application as gRPC without being gRPC-Web."""
    web = _any(
        *({"header": {"name": "content-type", "string_match": {"exact": kind}}} for kind in _TRANSLATED)
    )
    return {"permissions": [_all(_kind(_GRPC), {"not_rule": web})], "principals": _ANY}


def _kind(prefix: str) -> Mapping[str, Any]:
    """Return a rule for the requests whose content type begins so."""
    return {"header": {"name": "content-type", "string_match": {"prefix": prefix, "ignore_case": True}}}


def _of_web() -> Sequence[Mapping[str, Any]]:
    return [{"url_path": {"path": {"prefix": path}}} for path in PATHS]


def _all(*rules: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"and_rules": {"rules": rules}}


def _any(*rules: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"or_rules": {"rules": rules}}


def _filter(name: str, kind: str, **fields: Any) -> Mapping[str, Any]:
    return {
        "name": f"envoy.filters.http.{name}",
        "typed_config": {"@type": f"{TYPES}filters.http.{kind}", **fields},
    }
