"""The token endpoint: one function for each grant, from the parameters to the use case."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Final, NamedTuple

from identity_service.domain.audit import AuditType
from identity_service.domain.errors import IdentityError
from identity_service.domain.grants import GrantRequest
from identity_service.domain.id_jag import ID_JAG_TYPE
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import MAX_TOKEN_CHARS
from identity_service.domain.visible import NO_CONTROLS, has_controls
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.oauth.answers import token_response, with_nonce
from identity_service.http_api.oauth.callers import Callers
from identity_service.http_api.oauth.clients import ClientOfRequest, PublicClient
from identity_service.http_api.oauth.errors import (
    INVALID_CLIENT,
    INVALID_GRANT,
    UNSUPPORTED_GRANT_TYPE,
    OAuthError,
    from_error,
    invalid_client,
    invalid_request,
)
from identity_service.http_api.oauth.forms import Form, read_form
from identity_service.http_api.oauth.proofs import HEADER as DPOP
from identity_service.http_api.oauth.proofs import RequestProofs
from identity_service.jose.assertions import type_of
from identity_service.services.authenticate import (
    ClientCertificate,
    ClientCredential,
    FederatedToken,
    Password,
)
from identity_service.services.exchange import ExchangeRequest
from identity_service.services.id_jags import IdJag
from identity_service.services.issue import IssueRequest, TokenIssuer
from identity_service.services.refresh import Refresher, RefreshRequest
from identity_service.services.repeated_issue import RepeatedIssue
from identity_service.services.token_maker import TokenSet

CLIENT_CREDENTIALS: Final = "client_credentials"
PASSWORD: Final = "password"  # noqa: S105  # the name of a grant
REFRESH_TOKEN: Final = "refresh_token"  # noqa: S105  # the name of a grant
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  # RFC 8693 section 2.1
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""The grant type jwt-bearer (RFC 7523 section 2.1)."""
ACCESS_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # RFC 8693 section 3
_TOKEN_TYPES: Final = frozenset({ACCESS_TOKEN_TYPE, "urn:ietf:params:oauth:token-type:jwt"})
"""The types by which an access token of this service can be named."""
MAX_USERNAME_CHARS: Final = 128
MAX_PASSWORD_CHARS: Final = 1024
_HEADERS: Final = ("authorization", "content-type")
"""The headers that the token endpoint reads, beside that of a DPoP proof."""
_KIND: Final = b"oauth2/token"
"""The personalization of the digests (BLAKE2), which differs for each kind of request."""


class _Asked(NamedTuple):
    """A request for tokens, with its form and its client."""

    request: HttpRequest
    form: Form
    client: ClientOfRequest | None
    digest: bytes | None
    """The result of `digest_of` for the request."""


class _Grant(NamedTuple):
    """A grant: the function that serves it, and its error code."""

    serve: Callable[[_Asked], HttpResponse]
    refused: str
    """The error code for a credential that is refused."""


class TokenEndpoint:
    """The token endpoint."""

    def __init__(
        self,
        issuer: TokenIssuer,
        repeated: RepeatedIssue,
        refresher: Refresher,
        callers: Callers,
        proofs: RequestProofs,
    ) -> None:
        self._proofs = proofs
        self._issuer = issuer
        self._repeated = repeated
        self._refresher = refresher
        self._callers = callers
        self._grants: Mapping[str, _Grant] = {
            CLIENT_CREDENTIALS: _Grant(self._client_credentials, INVALID_CLIENT),
            PASSWORD: _Grant(self._password, INVALID_GRANT),
            REFRESH_TOKEN: _Grant(self._refresh, INVALID_CLIENT),
            TOKEN_EXCHANGE: _Grant(self._exchange, INVALID_CLIENT),
            JWT_BEARER: _Grant(self._jwt_bearer, INVALID_GRANT),
        }

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Issue tokens; a request that equals one that was granted is not decided again.

        Raises OAuthError, and the errors of `RepeatedIssue.issue`.
        """
        digest = digest_of(request)
        if digest is not None and (known := self._repeated.find(digest)) is not None:
            tokens = self._repeated.issue(known, request.origin.peer, request.origin.request_id)
            if tokens is not None:
                return token_response(tokens)
        form = read_form(request)
        grant = self._grants.get(form.require("grant_type"))
        if grant is None:
            raise OAuthError(
                UNSUPPORTED_GRANT_TYPE, f"the grant_type must be one of {', '.join(self._grants)}"
            )
        client = self._callers.presented(request, form)
        try:
            request = replace(request, origin=replace(request.origin, proof=self._proofs.shown(request)))
            response = grant.serve(_Asked(request, form, client, digest))
            return with_nonce(response, self._proofs.nonce_for(request))
        except IdentityError as error:
            raise from_error(error, refused=grant.refused) from error

    def _issue(
        self,
        asked: _Asked,
        credential: ClientCredential | IdJag | Password,
        exchange: ExchangeRequest | None = None,
    ) -> TokenSet:
        request = IssueRequest(
            credential=credential,
            grant=_wanted(asked.form),
            exchange=exchange,
            origin=asked.request.origin,
            digest=asked.digest,
        )
        return self._issuer.issue(request)

    def _client_credentials(self, asked: _Asked) -> HttpResponse:
        return token_response(self._issue(asked, _credential(asked)))

    def _password(self, asked: _Asked) -> HttpResponse:
        form, client = asked.form, _required(asked)
        username = form.require("username", MAX_USERNAME_CHARS)
        password = Secret(form.require("password", MAX_PASSWORD_CHARS))
        if has_controls(username):
            raise invalid_request(f"the parameter username {NO_CONTROLS}")
        if isinstance(client, PublicClient):
            client_id, proven = client.client_id, None
        else:
            # Before the password: otherwise the error code would tell an unauthenticated client whether the
            # password is right.
            proven = self._callers.client(client, asked.request, AuditType.ISSUE_REFUSED)
            client_id = proven.client.client_id
        credential = Password(username=username, password=password, client_id=client_id, authenticated=proven)
        return token_response(self._issue(asked, credential))

    def _refresh(self, asked: _Asked) -> HttpResponse:
        client, wanted = _required(asked), _wanted(asked.form)
        request = RefreshRequest(
            refresh_token=Secret(asked.form.require("refresh_token")),
            client=None if isinstance(client, PublicClient) else client,
            client_id=client.client_id if isinstance(client, PublicClient) else None,
            scopes=wanted.scopes,
            audiences=wanted.audiences,
            origin=asked.request.origin,
        )
        return token_response(self._refresher.refresh(request))

    def _exchange(self, asked: _Asked) -> HttpResponse:
        form = asked.form
        requested = form.get("requested_token_type") or ACCESS_TOKEN_TYPE
        if requested not in _TOKEN_TYPES:
            raise invalid_request(f"the requested_token_type must be {ACCESS_TOKEN_TYPE}")
        subject_token = _typed_token(form, "subject_token")
        if subject_token is None:
            raise invalid_request("the parameter subject_token is missing")
        exchange = ExchangeRequest(subject_token=subject_token, actor_token=_typed_token(form, "actor_token"))
        return token_response(self._issue(asked, _credential(asked), exchange), issued_token_type=requested)

    def _jwt_bearer(self, asked: _Asked) -> HttpResponse:
        jwt = Secret(asked.form.require("assertion", MAX_TOKEN_CHARS))
        if type_of(jwt) == ID_JAG_TYPE:
            return self._id_jag(asked, jwt)
        if asked.client is not None and not isinstance(asked.client, PublicClient | ClientCertificate):
            raise invalid_request(
                "this grant takes no client authentication: the assertion is the credential; send client_id "
                "at most"
            )
        client_id = None if asked.client is None else asked.client.client_id
        return token_response(self._issue(asked, FederatedToken(jwt=jwt, client_id=client_id)))

    def _id_jag(self, asked: _Asked, jwt: Secret) -> HttpResponse:
        # The client first: only an authenticated client learns why an ID-JAG is refused.
        credential = _credential(asked)
        presenter = self._callers.client(asked.client, asked.request, AuditType.ISSUE_REFUSED)
        id_jag = IdJag(jwt=jwt, presenter=presenter, credential=credential)
        return token_response(self._issue(asked, id_jag), names_resource=True)


def digest_of(request: HttpRequest) -> bytes | None:
    """Return a digest of all that decides a token request; None if the request is not to be recognised.

    That is so if it has a DPoP proof, which is another one each time, or comes with a client certificate.
    """
    if request.method != "POST" or request.query or DPOP in request.headers or request.origin.certificate:
        return None
    digest = blake2b(person=_KIND)
    for name in _HEADERS:
        values = request.headers.get(name, ())
        digest.update(b"%d;" % len(values))
        for value in values:
            encoded = value.encode("utf-8", "surrogatepass")
            digest.update(b"%d;%b" % (len(encoded), encoded))
    digest.update(request.body)
    return digest.digest()


def _wanted(form: Form) -> GrantRequest:
    """Return the requested audiences and scopes; `resource` names audiences too (RFC 8707 section 2)."""
    return GrantRequest(
        audiences=(*form.all("audience"), *form.all("resource")),
        scopes=tuple(filter(None, (form.get("scope") or "").split(" "))),
    )


def _required(asked: _Asked) -> ClientOfRequest:
    """Return the client that the request authenticates or names. Raises OAuthError if there is none."""
    if asked.client is None:
        raise invalid_client("the request has no client authentication and no client_id")
    return asked.client


def _credential(asked: _Asked) -> ClientCredential:
    """Return the credential of the client. Raises OAuthError if the request only names a client, or none."""
    client = _required(asked)
    if isinstance(client, PublicClient):
        raise invalid_client("the client must authenticate itself for this grant")
    return client


def _typed_token(form: Form, name: str) -> Secret | None:
    """Return a token and check its type (RFC 8693 section 2.1), or None if both are absent."""
    token, type_ = form.get(name, MAX_TOKEN_CHARS), form.get(f"{name}_type")
    if (token is None) != (type_ is None):
        raise invalid_request(f"{name} and {name}_type must be sent together")
    if type_ is not None and type_ not in _TOKEN_TYPES:
        raise invalid_request(f"the {name}_type must be {ACCESS_TOKEN_TYPE}")
    return None if token is None else Secret(token)
