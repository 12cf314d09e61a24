"""The servicer of envoy.service.auth.v3.Authorization."""

from collections.abc import Mapping
from typing import Any

from identity_service.domain.tokens import AccessToken, Rejected
from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.ext_authz.answers import NO_POLICY, Denial, allowed, denied, from_rejected
from identity_service.grpc_api.ext_authz.policy import Requirement, from_extensions
from identity_service.grpc_api.ext_authz.presented import bearer_token, certificate_sha256, headers_of
from identity_service.grpc_api.ext_authz.wire.auth_pb2 import AttributeContext, CheckRequest, CheckResponse
from identity_service.services.verify import Verifier, VerifyRequest


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

    def check(self, request: CheckRequest, _: Call) -> CheckResponse:
        """Tell Envoy whether to pass a request on. Raises InvalidRequestError, UnavailableError.

        The errors fail the RPC, so that Envoy answers its `status_on_error`; a refusal would say that the
        token is wrong.
        """
        attributes = request.attributes
        # The exact path, with its query: no server takes that for another method than this one.
        requirement = from_extensions(attributes.context_extensions) or self._methods.get(
            attributes.request.http.path
        )
        if requirement is None:
            return denied(NO_POLICY)
        token = None if requirement.public else self._verified(attributes, requirement)
        if isinstance(token, Denial):
            return denied(token)
        return allowed(token, (name for name, _ in headers_of(attributes.request.http)))

    def _verified(self, attributes: AttributeContext, requirement: Requirement) -> AccessToken | Denial:
        """Return the token of the request if it meets the requirement, else the refusal."""
        text = bearer_token(attributes.request.http)
        if isinstance(text, Denial):
            return text
        answer = self._verifier.verify(
            VerifyRequest(
                token=text,
                audiences=(requirement.audience,),
                required_scopes=requirement.scopes,
                certificate_sha256=certificate_sha256(attributes.source),
            )
        )
        return from_rejected(answer, requirement.scopes) if isinstance(answer, Rejected) else answer.token
