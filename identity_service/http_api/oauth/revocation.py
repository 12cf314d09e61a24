"""The revocation endpoint (RFC 7009): revokes an access token, or the session of a refresh token."""

from dataclasses import dataclass, replace

from identity_service.domain.audit import AuditType
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import CallerScopeMissingError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.origin import Origin
from identity_service.domain.ports import AuditTrail
from identity_service.domain.secret import Secret
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.oauth.answers import NO_STORE
from identity_service.http_api.oauth.callers import Callers
from identity_service.http_api.oauth.clients import PublicClient
from identity_service.http_api.oauth.errors import invalid_client
from identity_service.http_api.oauth.forms import Form, read_form
from identity_service.services.audit import record_refusal
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.revoke_token import RevokeTokenRequest, TokenRevoker


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationEndpoint:
    """The revocation endpoint, which revokes the token in the form of a request."""

    revoker: TokenRevoker
    callers: Callers
    audit: AuditTrail

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Revoke a token; it is revoked when this returns. `token_type_hint` is not needed.

        Raises OAuthError, IdentityError.
        """
        form = read_form(request)
        client, origin = self._client(request, form)
        token = Secret(form.require("token"))
        try:
            self.revoker.revoke(RevokeTokenRequest(token=token, client=client, origin=origin))
        except (CallerScopeMissingError, CredentialRefusedError) as error:
            record_refusal(self.audit, AuditType.CALL_REFUSED, error, origin, target=request.path)
            raise
        return HttpResponse(status=200, headers=NO_STORE)

    def _client(self, request: HttpRequest, form: Form) -> tuple[AuthenticatedClient | PrincipalId, Origin]:
        """Return the client that asks, and the origin that names it if it is authenticated."""
        named = self.callers.presented(request, form)
        if named is None:
            raise invalid_client("the request has no client authentication and no client_id")
        if isinstance(named, PublicClient):
            return named.client_id, request.origin
        proven = self.callers.client(named, request)
        return proven, replace(request.origin, actor=proven.subject)
