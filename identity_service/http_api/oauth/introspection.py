"""The introspection endpoint (RFC 7662): says whether a token is valid, and what it grants."""

from dataclasses import dataclass
from typing import Final

from identity_service.domain.secret import REFRESH_TOKEN_PREFIX, Secret
from identity_service.domain.tokens import TokenType
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.oauth.answers import (
    access_token_response,
    inactive_response,
    refresh_token_response,
    with_nonce,
)
from identity_service.http_api.oauth.callers import Callers
from identity_service.http_api.oauth.errors import invalid_request
from identity_service.http_api.oauth.forms import Form, read_form
from identity_service.http_api.oauth.proofs import RequestProofs
from identity_service.services.introspect import Introspector

_SCHEMES: Final = {"bearer": TokenType.BEARER, "dpop": TokenType.DPOP}


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionEndpoint:
    """The introspection endpoint, for callers that have the scope identity.verify."""

    introspector: Introspector
    callers: Callers
    proofs: RequestProofs
    issuer: str
    """The `iss` of this service."""

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the facts of a token, or only that it is not active. Raises OAuthError, IdentityError."""
        form = read_form(request)
        self._admit(request, form)
        return with_nonce(self._introspect(form), self.proofs.nonce_for(request))

    def _introspect(self, form: Form) -> HttpResponse:
        text = form.require("token")
        if not text.startswith(REFRESH_TOKEN_PREFIX):
            access_token = self.introspector.access_token(Secret(text))
            return inactive_response() if access_token is None else access_token_response(access_token)
        # A resource that was sent a refresh token in place of an access token must not take it for one, so a
        # caller that does not ask for refresh tokens is told of none.
        refresh_token = None
        if form.get("token_type_hint") == "refresh_token":
            refresh_token = self.introspector.refresh_token(Secret(text))
        if refresh_token is None:
            return inactive_response()
        return refresh_token_response(refresh_token, self.issuer)

    def _admit(self, request: HttpRequest, form: Form) -> None:
        """Require a caller that may verify tokens, by the credential of a client or an access token."""
        authorization = request.headers.get("authorization", ())
        name, _, token = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        scheme = _SCHEMES.get(name.lower())
        if scheme is None:
            self.callers.verifying_client(self.callers.presented(request, form), request)
            return
        if any(form.get(name) for name in ("client_secret", "client_assertion")):
            raise invalid_request("use one method of authentication only")
        token = token.strip(" ")
        if scheme is TokenType.BEARER:
            self.callers.verifying_token(token, request)
        else:
            self.callers.verifying_bound_token(token, self.proofs, request)
