"""Callers: who sends this call, proven by an access token in metadata `authorization: Bearer …`.

A caller's token is verified as any other, for the audience of this service itself.
"""

from collections.abc import Sequence
from typing import Any, Final

from identity_service.domain.errors import CallerScopeMissingError, CallerUnauthenticatedError
from identity_service.domain.tokens import AccessToken, Rejected
from identity_service.grpc_api.policy import Access, Rule
from identity_service.services.verify import Verifier, VerifyRequest

_HEADER: Final = "authorization"
_NEEDED: Final = "this method needs metadata `authorization: Bearer <access token>` for audience "

Metadata = Sequence[tuple[str, str | bytes]]


class CallerGate:
    """Enforces the rule of a method on one call."""

    def __init__(self, verifier: Verifier[Any], *, audience: str, require_caller_auth: bool) -> None:
        self._verifier = verifier
        self._audience = audience
        self._require_caller_auth = require_caller_auth

    def applies(self, rule: Rule, request: Any) -> bool:  # any message
        """Whether this call needs a caller at all."""
        match rule.access:
            case Access.OPEN:
                return False
            case Access.SCOPE_WHERE_CONFIGURED:
                return self._require_caller_auth
            case Access.HOLDER_OR_SCOPE:
                # Whoever can show a token's text holds it: the token is its own proof. A request
                # without a target is refused as such, whoever sends it.
                return request.WhichOneof("target") not in ("token", None)

    def admit(self, rule: Rule, metadata: Metadata) -> AccessToken:
        """The caller, who has the rule's scope.

        Raises CallerUnauthenticatedError, CallerScopeMissingError, UnavailableError.
        """
        caller = self._caller(metadata)
        if rule.scope not in caller.scopes:
            raise CallerScopeMissingError(f"the caller's token lacks the scope {rule.scope}")
        return caller

    def _caller(self, metadata: Metadata) -> AccessToken:
        values = [value for key, value in metadata if key == _HEADER]
        if len(values) != 1 or not isinstance(values[0], str):
            raise CallerUnauthenticatedError(f"{_NEEDED}{self._audience!r}")
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() != "bearer":
            raise CallerUnauthenticatedError(f"{_NEEDED}{self._audience!r}")
        answer = self._verifier.verify(VerifyRequest(token=token, audiences=(self._audience,)))
        if isinstance(answer, Rejected):
            raise CallerUnauthenticatedError(f"the caller's token was rejected: {answer.reason}")
        return answer.token
