"""The servicer of envoy.service.auth.v3.Authorization. It answers in bytes, as that of Verify does."""

from collections.abc import Mapping
from typing import Any, Final

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import TokenId
from identity_service.domain.tokens import AccessToken, Rejected
from identity_service.grpc_api.ext_authz.answers import (
    NO_POLICY,
    Denial,
    allowed,
    claimed_in,
    denied,
    from_rejected,
)
from identity_service.grpc_api.ext_authz.policy import SCOPES, Requirement, from_extensions
from identity_service.grpc_api.ext_authz.presented import bearer_token, certificate_sha256, headers_of
from identity_service.grpc_api.ext_authz.wire.auth_pb2 import AttributeContext, CheckRequest
from identity_service.services.verify import Verifier, VerifyRequest
from identity_shared.lru_cache import LruCache, weight_of_json

_MAX_SEARCHED: Final = 2048
"""The longest path and body, in characters, that an event loop searches for a second token; also the longest
list of scopes that it checks."""
_MAX_ENTRIES: Final = 128
"""The largest number of headers and of context extensions that an event loop goes through.

A request of 16 KiB has room for thousands, which take milliseconds.
"""
_MAX_HEADERS: Final = 1000
"""The largest number of headers of a request. Envoy accepts 100 unless it is configured otherwise."""
_CACHE_BYTES: Final = 8 * 1024 * 1024
_ENTRY_BYTES: Final = 3000
"""The memory that a cached response takes beside its bytes, most of it for the token without its extra
claims, in bytes."""


class ExtAuthzServicer:
    """The servicer of Authorization. It answers from memory, as Verify does."""

    def __init__(self, verifier: Verifier[Any], methods: Mapping[str, Requirement]) -> None:
        """Create a servicer.

        Args:
            verifier: verifies the tokens.
            methods: the requirement of each gRPC method, by its path, for requests whose route names none.
        """
        self._verifier = verifier
        self._methods = methods
        self._allowed: LruCache[TokenId, tuple[AccessToken, bytes]] = LruCache(_CACHE_BYTES)
        """The response that passes a request on, for each of the last tokens: the token alone decides it if
        the client claims no identity."""

    def check(self, request: CheckRequest, _: bytes) -> bytes:
        """Tell Envoy whether to pass a request on. Raises InvalidRequestError, UnavailableError.

        The errors fail the RPC, so that Envoy answers its `status_on_error`; a refusal would say that the
        token is wrong.
        """
        http = request.attributes.request.http
        if len(http.headers) + len(http.header_map.headers) > _MAX_HEADERS:
            raise InvalidRequestError.of(
                "attributes.request.http", f"must have at most {_MAX_HEADERS:,} headers"
            )
        return self._decide(request.attributes, bearer_token(http), may_wait=True)

    def check_now(self, request: CheckRequest, _: bytes) -> bytes | None:
        """Tell Envoy on an event loop; None = it takes long to read the request.

        Raises StoreReadRequiredError if the token names a generation that this process does not know yet, or
        was never seen and takes long to verify.
        """
        attributes, http = request.attributes, request.attributes.request.http
        required = attributes.context_extensions
        if (
            attributes.source.certificate
            or len(http.path) + len(http.body) + len(http.raw_body) > _MAX_SEARCHED
            or len(http.headers) + len(http.header_map.headers) + len(required) > _MAX_ENTRIES
            or len(required.get(SCOPES, "")) > _MAX_SEARCHED
        ):
            return None
        return self._decide(attributes, bearer_token(http), may_wait=False)

    def _decide(self, attributes: AttributeContext, text: str | Denial, *, may_wait: bool) -> bytes:
        """Return the response to a request with this token, or without one for the reason of a Denial."""
        # The exact path, with its query: no server takes that for another method than this one.
        requirement = from_extensions(attributes.context_extensions) or self._methods.get(
            attributes.request.http.path
        )
        if requirement is None:
            return denied(NO_POLICY).SerializeToString()
        token = None
        if not requirement.public:
            if isinstance(text, Denial):
                return denied(text).SerializeToString()
            answer = self._verifier.verify(
                VerifyRequest(
                    token=text,
                    audiences=(requirement.audience,),
                    required_scopes=requirement.scopes,
                    certificate_sha256=certificate_sha256(attributes.source),
                    may_wait=may_wait,
                )
            )
            if isinstance(answer, Rejected):
                return denied(from_rejected(answer, requirement.scopes)).SerializeToString()
            token = answer.token
        return self._pass_on(token, claimed_in(name for name, _ in headers_of(attributes.request.http)))

    def _pass_on(self, token: AccessToken | None, claimed: frozenset[str]) -> bytes:
        """Return the response that passes a request on, cached if the token is the very same object."""
        if token is None or claimed:
            return allowed(token, claimed).SerializeToString()
        known = self._allowed.get(token.token_id)
        if known is not None and known[0] is token:
            return known[1]
        response = allowed(token, claimed).SerializeToString()
        weight = _ENTRY_BYTES + len(response) + weight_of_json(token.claims)
        self._allowed.put(token.token_id, (token, response), weight)
        return response
