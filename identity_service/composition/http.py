"""Wires the HTTP API. Imported only if `http_listen` is set, since its libraries take megabytes."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from identity_service.composition.wiring import Parts, UseCases
from identity_service.domain.grants import SCOPE_ADMIN, SCOPE_REVOKE, SCOPE_VERIFY
from identity_service.domain.ports import ReplicaView
from identity_service.grpc_api.asgi.web import GrpcWebApp
from identity_service.http_api import paths
from identity_service.http_api.app import HttpApp, HttpRoute
from identity_service.http_api.health import HealthEndpoints
from identity_service.http_api.jwks import JwksEndpoint
from identity_service.http_api.listener import HttpListener, HttpListenerConfig
from identity_service.http_api.metrics import MetricsEndpoint
from identity_service.http_api.oauth.endpoints import OAuthConfig, OAuthEndpoints, OAuthUseCases
from identity_service.http_api.oauth.metadata import MetadataConfig
from identity_service.http_api.peers import with_certificate
from identity_service.http_api.routes import routes
from identity_service.services.keyring import max_age
from identity_service.settings import Settings
from identity_service.transport.asgi import AsgiApp as AsgiApp
from identity_service.transport.client_certificates import certificate_in, pem_from_envoy
from identity_service.transport.limits import Limits
from identity_service.transport.tls import Certificates


def http_app(
    parts: Parts,
    use: UseCases,
    pool: Executor,
    limits: Limits,
    is_serving: Callable[[], bool],
    metrics: Callable[[], bytes] | None,
) -> HttpApp:
    """Return the application of the HTTP API.

    Args:
        parts: the parts of the process.
        use: the use cases, which are those of the RPCs.
        pool: the threads that run endpoints which may wait.
        limits: bound the requests of all APIs together.
        is_serving: returns whether grpc.health.v1 reports SERVING.
        metrics: returns the metrics of this process as text; None = they are not served.
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
            mtls_url=settings.http_mtls_url,
        )

    every = routes(
        settings.issuer,
        JwksEndpoint(use.keys.published, replica, max_age(settings.publish_before)),
        HealthEndpoints(is_serving),
        oauth_endpoints(settings, use, replica),
        metadata,
    )
    if metrics is not None:
        endpoint = MetricsEndpoint(metrics)
        every = (*every, HttpRoute(path=paths.METRICS, methods=("GET",), endpoint=endpoint))
    return HttpApp(every, pool, limits)


def oauth_endpoints(settings: Settings, use: UseCases, replica: ReplicaView) -> OAuthEndpoints:
    """Return the OAuth endpoints for these use cases."""
    return OAuthEndpoints(
        OAuthUseCases(
            issuer=use.issuer,
            repeated_issue=use.repeated_issue,
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
            mtls_url=settings.http_mtls_url,
        ),
    )


def http_listeners(
    app: AsgiApp,
    web: AsgiApp | None,
    settings: Settings,
    limits: Limits,
    certificates: Certificates | None,
    *,
    share_port: bool,
) -> Sequence[HttpListener]:
    """Return the listener of `http_listen`, and then that of `http_mtls_listen` if it is set.

    Only the first serves gRPC-Web, by the engine `web`. Raises ConfigurationError if the certificates cannot
    be used.
    """
    first = app if web is None else GrpcWebApp(web, app, settings.web_origins)
    found = [
        HttpListenerConfig(
            listen=settings.http_listen,
            max_connections=settings.max_connections,
            max_connection_age=settings.max_connection_age,
            share_port=share_port,
        )
    ]
    if settings.http_mtls_listen:
        mutual = replace(found[0], listen=settings.http_mtls_listen, setting="http_mtls_listen", ask=True)
        found.append(mutual)
    return [HttpListener(app if config.ask else first, config, limits, certificates) for config in found]


class GrpcOrHttp:
    """The ASGI application inside Envoy: passes each request to the API that it is for."""

    def __init__(self, grpc: AsgiApp, http: AsgiApp, settings: Settings) -> None:
        self._grpc = grpc
        self._http = http
        self._shares_port = settings.shares_port
        """True if the content type decides on ports that do not serve HTTP alone."""
        web = settings.http_listen if settings.web_origins else ""
        self._web_ports = _ports(web)
        """The port on which the content type decides, since Envoy turns gRPC-Web into gRPC."""
        alone = "" if settings.shares_port or web else settings.http_listen
        self._http_ports = _ports(settings.http_mtls_listen, alone)
        """The ports that serve HTTP alone."""

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        if not self._is_http(scope):
            await self._grpc(scope, receive, send)
            return
        pem = pem_from_envoy(scope)
        certificate = certificate_in(pem) if pem is not None else None
        state = with_certificate(scope.get("state", {}), certificate)
        await self._http({**scope, "state": state}, receive, send)

    def _is_http(self, scope: Mapping[str, Any]) -> bool:
        port = scope["server"][1]
        if port in self._http_ports:
            return True
        if not self._shares_port and port not in self._web_ports:
            return False
        for name, value in scope["headers"]:
            if name == b"content-type":
                return not value.startswith(b"application/grpc")
        return True


def _ports(*places: str) -> frozenset[int]:
    """Return the ports of those of these addresses that are not empty."""
    return frozenset(int(place.rpartition(":")[2]) for place in places if place)
