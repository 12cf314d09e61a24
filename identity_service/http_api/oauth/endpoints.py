"""The OAuth endpoints as functions of requests, with the checks and error answers that all of them share."""

from dataclasses import dataclass
from typing import Any

from identity_service.domain.ports import AuditTrail, ReplicaView
from identity_service.http_api import paths
from identity_service.http_api.messages import Endpoint, HttpRequest, HttpResponse
from identity_service.http_api.oauth.answers import error_response
from identity_service.http_api.oauth.callers import Callers
from identity_service.http_api.oauth.errors import SERVER_ERROR, from_error
from identity_service.http_api.oauth.introspection import IntrospectionEndpoint
from identity_service.http_api.oauth.proofs import RequestProofs
from identity_service.http_api.oauth.revocation import RevocationEndpoint
from identity_service.http_api.oauth.token import TokenEndpoint
from identity_service.http_api.refusals import log_bug
from identity_service.services.authenticate import Authenticator
from identity_service.services.dpop import DpopProofs
from identity_service.services.introspect import Introspector
from identity_service.services.issue import TokenIssuer
from identity_service.services.refresh import Refresher
from identity_service.services.repeated_issue import RepeatedIssue
from identity_service.services.revoke_token import TokenRevoker
from identity_service.services.verify import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthUseCases:
    """The use cases that the OAuth endpoints call, and the parts that check and record the calls."""

    issuer: TokenIssuer
    repeated_issue: RepeatedIssue
    refresher: Refresher
    introspector: Introspector
    token_revoker: TokenRevoker
    authenticator: Authenticator
    verifier: Verifier[Any]
    replica: ReplicaView
    dpop: DpopProofs
    audit: AuditTrail


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthConfig:
    """The settings of the OAuth endpoints."""

    issuer: str
    """The `iss` of this service, a URL; the URLs of the endpoints begin with it."""
    service_audience: str
    """The audience of access tokens for this service itself."""
    dpop_authorities: tuple[str, ...] = ()
    """Authorities beside those of `issuer` and `mtls_url` that DPoP proofs may name."""
    mtls_url: str = ""
    """The URL at which clients present their certificates; empty = none."""


class OAuthEndpoints:
    """The endpoints for tokens, introspection and revocation. Their functions raise nothing."""

    def __init__(self, use: OAuthUseCases, config: OAuthConfig) -> None:
        callers = Callers(
            authenticator=use.authenticator,
            verifier=use.verifier,
            replica=use.replica,
            dpop=use.dpop,
            audit=use.audit,
            audience=config.service_audience,
            token_endpoint=paths.url_of(config.issuer, paths.TOKEN),
        )

        def proofs(path: str) -> RequestProofs:
            urls = [paths.url_of(base, path) for base in (config.issuer, config.mtls_url) if base]
            return RequestProofs(urls, config.dpop_authorities, use.dpop.next_nonce)

        token = TokenEndpoint(use.issuer, use.repeated_issue, use.refresher, callers, proofs(paths.TOKEN))
        introspection = IntrospectionEndpoint(
            introspector=use.introspector,
            callers=callers,
            proofs=proofs(paths.INTROSPECT),
            issuer=config.issuer,
        )
        revocation = RevocationEndpoint(revoker=use.token_revoker, callers=callers, audit=use.audit)
        self.token = _served(token.answer)
        """The token endpoint (RFC 6749 section 3.2)."""
        self.introspect = _served(introspection.answer)
        """The introspection endpoint (RFC 7662)."""
        self.revoke = _served(revocation.answer)
        """The revocation endpoint (RFC 7009)."""


def _served(answer: Endpoint) -> Endpoint:
    """Return an endpoint that answers with this function, and with the table of errors if that raises."""

    def endpoint(request: HttpRequest) -> HttpResponse:
        try:
            return answer(request)
        except Exception as error:  # noqa: BLE001  # the table has an answer to each
            return _refused(request, error)

    return endpoint


def _refused(request: HttpRequest, error: Exception) -> HttpResponse:
    # Not in `endpoint`: its frame is in the traceback, and would form a cycle with the error, which keeps the
    # request in memory.
    answered = from_error(error)
    if answered.code == SERVER_ERROR:
        log_bug(error, request.path, request.origin.request_id)
    return error_response(answered)
