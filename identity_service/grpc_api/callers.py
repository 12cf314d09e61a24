"""Authenticates the caller of a method: by an access token in metadata, or by its client certificate.

The access token is verified like any other, for the audience of this service. If a call has both, the token
decides: a client that sends a token wants to act as the subject of the token.
"""

from collections.abc import Sequence
from typing import Any, Final

import grpc

from identity_service.domain.audit import AuditType
from identity_service.domain.errors import CallerScopeMissingError, CallerUnauthenticatedError
from identity_service.domain.origin import Origin, PeerCertificate
from identity_service.domain.ports import AuditTrail
from identity_service.domain.tokens import Rejected
from identity_service.grpc_api.calls import Caller, certificate_of, peer_of
from identity_service.grpc_api.method_spec import Access, Rule
from identity_service.services.audit import record_refusal
from identity_service.services.directory import Directory
from identity_service.services.verify import Verifier, VerifyRequest

_HEADER: Final = "authorization"
_NEEDED: Final = "this method needs metadata `authorization: Bearer <access token>` for audience "

Metadata = Sequence[tuple[str, str | bytes]]


class CallerGate:
    """Enforces the access rule of a method on one call."""

    def __init__(
        self,
        verifier: Verifier[Any],
        directory: Directory,
        audit: AuditTrail,
        *,
        audience: str,
        require_caller_auth: bool,
    ) -> None:
        self._verifier = verifier
        self._directory = directory
        self._audit = audit
        self._audience = audience
        self._require_caller_auth = require_caller_auth

    def applies(self, rule: Rule, request: Any) -> bool:  # any message
        """Return whether this call must have an authenticated caller.

        The request matters only for `Access.HOLDER_OR_SCOPE`.
        """
        match rule.access:
            case Access.OPEN:
                return False
            case Access.SCOPE | Access.OWN_OR_SCOPE:
                return True
            case Access.SCOPE_WHERE_CONFIGURED:
                return self._require_caller_auth
            case Access.HOLDER_OR_SCOPE:
                # A client that can send a token holds it, so the token is its own proof. A request without a
                # target is refused as invalid later, for every caller.
                return request.WhichOneof("target") not in ("token", None)

    def admit(
        self, method: str, rule: Rule, context: grpc.ServicerContext, *, may_wait: bool = True
    ) -> Caller:
        """Return the caller; it has the rule's scope unless the rule allows access to its own objects.

        A refusal is recorded as an audit event.

        Raises CallerUnauthenticatedError, CallerScopeMissingError, UnavailableError;
        StoreReadRequiredError if `may_wait` is false and the answer needs a read of the store.
        """
        try:
            return self._admit(rule, context, may_wait=may_wait)
        except (CallerUnauthenticatedError, CallerScopeMissingError) as error:
            origin = Origin(peer=peer_of(context), certificate=certificate_of(context))
            record_refusal(self._audit, AuditType.CALL_REFUSED, error, origin, target=method)
            raise

    def _admit(self, rule: Rule, context: grpc.ServicerContext, *, may_wait: bool) -> Caller:
        values = [value for key, value in context.invocation_metadata() if key == _HEADER]
        certificate = certificate_of(context)
        if values:
            caller = self._by_token(values, certificate, may_wait=may_wait)
        else:
            caller = self._by_certificate(certificate)
        may_own = rule.access is Access.OWN_OR_SCOPE and not caller.is_delegated
        if not may_own and rule.scope not in caller.scopes:
            raise CallerScopeMissingError(f"the caller lacks the scope {rule.scope}")
        return caller

    def _by_token(
        self, values: Sequence[str | bytes], certificate: PeerCertificate | None, *, may_wait: bool
    ) -> Caller:
        if len(values) != 1 or not isinstance(values[0], str):
            raise self._unauthenticated()
        scheme, _, text = values[0].partition(" ")
        if scheme.lower() != "bearer":
            raise self._unauthenticated()
        shown = certificate.sha256 if certificate is not None else b""
        answer = self._verifier.verify(
            VerifyRequest(
                token=text, audiences=(self._audience,), certificate_sha256=shown, may_wait=may_wait
            )
        )
        if isinstance(answer, Rejected):
            raise CallerUnauthenticatedError(f"the caller's token was rejected: {answer.reason}")
        token = answer.token
        return Caller(
            principal=token.subject,
            scopes=frozenset(token.scopes),
            session_id=token.session_id,
            is_delegated=bool(token.actors),
        )

    def _by_certificate(self, certificate: PeerCertificate | None) -> Caller:
        client = self._directory.client_of(certificate) if certificate is not None else None
        if client is None or client.disabled:
            raise self._unauthenticated()
        return Caller(principal=client.client_id, scopes=client.scopes)

    def _unauthenticated(self) -> CallerUnauthenticatedError:
        return CallerUnauthenticatedError(f"{_NEEDED}{self._audience!r}, or a client certificate")
