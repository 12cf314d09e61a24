"""Wires the HTTP API. Imported only if `http_listen` is set, since its libraries take megabytes."""

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, TypeAlias

from identity_service.composition.wiring import Parts, UseCases
from identity_service.domain.grants import SCOPE_ADMIN, SCOPE_REVOKE, SCOPE_VERIFY
from identity_service.domain.ports import ReplicaView
from identity_service.http_api.app import HttpApp
from identity_service.http_api.health import HealthEndpoints
from identity_service.http_api.jwks import JwksEndpoint
from identity_service.http_api.listener import HttpListener, HttpListenerConfig
from identity_service.http_api.oauth.endpoints import OAuthConfig, OAuthEndpoints, OAuthUseCases
from identity_service.http_api.oauth.metadata import MetadataConfig
from identity_service.http_api.routes import routes
from identity_service.services.key_set import max_age
from identity_service.settings import Settings
from identity_service.transport.limits import Limits
from identity_service.transport.tls import Certificates

AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


def http_app(
    parts: Parts, use: UseCases, pool: Executor, limits: Limits, is_serving: Callable[[], bool]
) -> HttpApp:
    """Return the application of the HTTP API.

    Args:
        parts: the parts of the process.
        use: the use cases, which are those of the RPCs.
        pool: the threads that run endpoints which may wait.
        limits: bound the requests of all APIs together.
        is_serving: returns whether grpc.health.v1 reports SERVING.
    """
    settings, replica = parts.settings, parts.replica

    def metadata() -> MetadataConfig:
        replica.require_ready()
        return MetadataConfig(
            issuer=settings.issuer,
            scopes=frozenset((*settings.known_scopes, SCOPE_ADMIN, SCOPE_REVOKE, SCOPE_VERIFY)),
            algorithms=tuple(sorted({key.algorithm for key in use.keys.published()})),
            public_clients=use.directory.has_public_client(),
            trusted_issuers=len(use.issuers) > 0,
        )

    every = routes(
        settings.issuer,
        JwksEndpoint(use.keys.published, replica, max_age(settings.publish_before)),
        HealthEndpoints(is_serving),
        oauth_endpoints(settings, use, replica),
        metadata,
    )
    return HttpApp(every, pool, limits)


def oauth_endpoints(settings: Settings, use: UseCases, replica: ReplicaView) -> OAuthEndpoints:
    """Return the OAuth endpoints for these use cases."""
    return OAuthEndpoints(
        OAuthUseCases(
            issuer=use.issuer,
            refresher=use.refresher,
            introspector=use.introspector,
            token_revoker=use.token_revoker,
            authenticator=use.authenticator,
            verifier=use.verifier,
            replica=replica,
            dpop=use.proofs,
            audit=use.trail,
        ),
        OAuthConfig(
            issuer=settings.issuer,
            service_audience=settings.service_audience,
            dpop_authorities=settings.dpop_authorities,
        ),
    )


def http_listener(
    app: HttpApp,
    settings: Settings,
    limits: Limits,
    certificates: Certificates | None,
    *,
    share_port: bool,
) -> HttpListener:
    """Return the listener of `http_listen`. Raises ConfigurationError if its certificate cannot be used."""
    config = HttpListenerConfig(
        listen=settings.http_listen, max_connections=settings.max_connections, share_port=share_port
    )
    return HttpListener(app, config, limits, certificates)


class GrpcOrHttp:
    """The ASGI application inside Envoy: passes each request to the API that it is for."""

    def __init__(self, grpc: AsgiApp, http: AsgiApp, settings: Settings) -> None:
        self._grpc = grpc
        self._http = http
        own_port = None if settings.shares_port else int(settings.http_listen.rpartition(":")[2])
        self._http_port = own_port
        """The port that serves HTTP alone; None = the content type decides."""

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        await (self._http if self._is_http(scope) else self._grpc)(scope, receive, send)

    def _is_http(self, scope: Mapping[str, Any]) -> bool:
        if self._http_port is not None:
            return bool(scope["server"][1] == self._http_port)
        for name, value in scope["headers"]:
            if name == b"content-type":
                return not value.startswith(b"application/grpc")
        return True
