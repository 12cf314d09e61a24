"""The routes of the HTTP API: which endpoint answers at which paths."""

from collections.abc import Callable, Sequence

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
        metadata: returns the present content of the metadata documents. Raises NotReadyError.
    """
    prefix = paths.prefix_of(issuer)

    def get(path: str, endpoint: Endpoint, *further: str) -> list[HttpRoute]:
        every = dict.fromkeys((path, prefix + path, *further))
        return [HttpRoute(path=p, methods=("GET",), endpoint=endpoint, is_instant=True) for p in every]

    def post(path: str, endpoint: Endpoint) -> list[HttpRoute]:
        every = dict.fromkeys((path, prefix + path))
        return [HttpRoute(path=p, methods=("POST",), endpoint=endpoint) for p in every]

    return (
        *get(paths.KEYS, keys),
        *get(paths.LIVE, health.live),
        *get(paths.READY, health.ready),
        *get(
            paths.AUTHORIZATION_SERVER,
            lambda _: json_response(authorization_server_metadata(metadata())),
            paths.AUTHORIZATION_SERVER + prefix,
        ),
        *get(
            paths.OPENID_CONFIGURATION,
            lambda _: json_response(openid_configuration(metadata())),
            paths.OPENID_CONFIGURATION + prefix,
        ),
        *post(paths.TOKEN, oauth.token),
        *post(paths.INTROSPECT, oauth.introspect),
        *post(paths.REVOKE, oauth.revoke),
    )
