"""The OAuth endpoints as functions of requests, with the checks and error answers that all of them share."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from identity_service.domain.ports import AuditTrail, ReplicaView
from identity_service.http_api import paths
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.oauth.answers import error_response
from identity_service.http_api.oauth.callers import Callers
from identity_service.http_api.oauth.errors import SERVER_ERROR, OAuthError, from_error, invalid_request
from identity_service.http_api.oauth.forms import Form, check_media_type, parse_form
from identity_service.http_api.oauth.introspection import IntrospectionEndpoint
from identity_service.http_api.oauth.proofs import RequestProofs
from identity_service.http_api.oauth.repeated import repeated_response
from identity_service.http_api.oauth.revocation import RevocationEndpoint
from identity_service.http_api.oauth.token import TokenEndpoint
from identity_service.services.authenticate import Authenticator
from identity_service.services.dpop import DpopProofs
from identity_service.services.introspect import Introspector
from identity_service.services.issue import Issuer
from identity_service.services.refresh import Refresher
from identity_service.services.repeated_issue import RepeatedIssue
from identity_service.services.revoke_token import TokenRevoker
from identity_service.services.verify import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthUseCases:
    """The parts behind the OAuth endpoints."""

    issuer: Issuer
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
        url = paths.url_of(config.issuer, paths.TOKEN)
        callers = Callers(
            use.authenticator,
            use.verifier,
            use.replica,
            use.dpop,
            use.audit,
            audience=config.service_audience,
        )

        def proofs(path: str) -> RequestProofs:
            urls = [paths.url_of(base, path) for base in (config.issuer, config.mtls_url) if base]
            return RequestProofs(urls, config.dpop_authorities, use.dpop.next_nonce)

        self._repeated_issue = use.repeated_issue
        self._token = TokenEndpoint(use.issuer, use.refresher, callers, proofs(paths.TOKEN), url=url)
        self._introspection = IntrospectionEndpoint(
            use.introspector,
            callers,
            proofs(paths.INTROSPECT),
            issuer=config.issuer,
            token_endpoint=url,
        )
        self._revocation = RevocationEndpoint(use.token_revoker, callers, use.audit, token_endpoint=url)
        self._log: Any = structlog.get_logger("identity.http")

    def token(self, request: HttpRequest) -> HttpResponse:
        """Issue tokens (RFC 6749 section 3.2)."""
        try:
            if (response := repeated_response(request, self._repeated_issue)) is not None:
                return response
        except Exception as error:  # noqa: BLE001  # as in `_serve`
            return self._refuse(request, error)
        return self._serve(request, self._token.answer)

    def introspect(self, request: HttpRequest) -> HttpResponse:
        """Return whether a token is valid (RFC 7662)."""
        return self._serve(request, self._introspection.answer)

    def revoke(self, request: HttpRequest) -> HttpResponse:
        """Revoke a token (RFC 7009)."""
        return self._serve(request, self._revocation.answer)

    def _serve(
        self, request: HttpRequest, answer: Callable[[HttpRequest, Form], HttpResponse]
    ) -> HttpResponse:
        try:
            return answer(request, _read_form(request))
        except Exception as error:  # noqa: BLE001  # the table has an answer to each
            return self._refuse(request, error)

    def _refuse(self, request: HttpRequest, error: Exception) -> HttpResponse:
        # Not in `_serve`: its frame is in the traceback, and would form a cycle with the error, which keeps
        # the request in memory.
        answered = from_error(error)
        if answered.code == SERVER_ERROR:
            self._log_bug(request, error)
        return error_response(answered)

    def _log_bug(self, request: HttpRequest, error: Exception) -> None:
        """Log only the place of an exception, whose text may contain a value of the request."""
        frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        self._log.error(
            "http_bug",
            path=request.path,
            request_id=request.origin.request_id,
            error=type(error).__name__,
            frames=frames[-8:],
        )


def _read_form(request: HttpRequest) -> Form:
    if request.method != "POST":
        raise OAuthError("invalid_request", "send a POST", status=405, headers=(("Allow", "POST"),))
    if request.query:
        # A URL is logged on its way, and a credential must not be (RFC 6749 section 2.3.1).
        raise invalid_request("send the parameters in the body, and none in the URL")
    check_media_type(request.headers.get("content-type", ()))
    return parse_form(request.body)
