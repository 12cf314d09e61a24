"""The routes of the HTTP API: which endpoint answers at which paths."""

from collections.abc import Callable, Mapping, Sequence

from identity_service.http_api import paths
from identity_service.http_api.app import HttpRoute
from identity_service.http_api.health import HealthEndpoints
from identity_service.http_api.messages import Endpoint
from identity_service.http_api.oauth.answers import json_response
from identity_service.http_api.oauth.endpoints import OAuthEndpoints
from identity_service.http_api.oauth.metadata import (
    MetadataConfig,
    authorization_server_metadata,
    openid_configuration,
)
from identity_service.http_api.openapi.description import describe


def routes(
    issuer: str,
    keys: Endpoint,
    health: HealthEndpoints,
    oauth: OAuthEndpoints,
    metadata: Callable[[], MetadataConfig],
) -> Sequence[HttpRoute]:
    """Return all routes.

    Each endpoint is served at its path, and below the path of the issuer: a proxy may pass that on or not.
    A metadata document is also served where RFC 8414 inserts its path before that of the issuer.

    Args:
        issuer: the URL of this service.
        keys: answers with the JWK set.
        health: answers the probes.
        oauth: the endpoints for tokens.
        metadata: returns the present content of the metadata documents; it may wait. Raises UnavailableError.
    """
    prefix = paths.prefix_of(issuer)
    description = json_response(describe(issuer))

    def get(path: str, endpoint: Endpoint) -> list[HttpRoute]:
        every = dict.fromkeys((path, prefix + path))
        return [HttpRoute(path=p, methods=("GET",), endpoint=endpoint, is_instant=True) for p in every]

    def document(path: str, render: Callable[[MetadataConfig], Mapping[str, object]]) -> list[HttpRoute]:
        every = dict.fromkeys((path, prefix + path, path + prefix))
        return [
            HttpRoute(path=p, methods=("GET",), endpoint=lambda _: json_response(render(metadata())))
            for p in every
        ]

    def post(path: str, endpoint: Endpoint) -> list[HttpRoute]:
        every = dict.fromkeys((path, prefix + path))
        return [HttpRoute(path=p, methods=("POST",), endpoint=endpoint) for p in every]

    return (
        *get(paths.KEYS, keys),
        *get(paths.OPENAPI, lambda _: description),
        *get(paths.LIVE, health.live),
        *get(paths.READY, health.ready),
        *document(paths.AUTHORIZATION_SERVER, authorization_server_metadata),
        *document(paths.OPENID_CONFIGURATION, openid_configuration),
        *post(paths.TOKEN, oauth.token),
        *post(paths.INTROSPECT, oauth.introspect),
        *post(paths.REVOKE, oauth.revoke),
    )
