"""The gate that authenticates callers, by token or certificate, and enforces the access rule of a method.

The access token comes in metadata, and is verified like any other, for the audience of this service. A token
that is bound to a key comes with the scheme DPoP and a proof (RFC 9449). If a call has both a token and a
client certificate, the token decides: a client that sends a token wants to act as the subject of the token.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Final

import grpc

from identity_service.domain.audit import AuditType
from identity_service.domain.credential_errors import CallerUnauthenticatedError, DpopProofRefusedError
from identity_service.domain.dpop import DpopProof
from identity_service.domain.errors import CallerScopeMissingError
from identity_service.domain.origin import Origin, PeerCertificate, sha256_of
from identity_service.domain.ports import AuditTrail
from identity_service.domain.tokens import Rejected, TokenType
from identity_service.grpc_api.calls import Caller, bind_trace, client_certificate_of, client_of
from identity_service.grpc_api.method_spec import Access, Rule
from identity_service.grpc_api.proofs import PROOF, CallProofs
from identity_service.services.audit import record_refusal
from identity_service.services.directory import Directory
from identity_service.services.dpop import DpopProofs
from identity_service.services.verify import StoreReadRequiredError, Verifier, VerifyRequest
from identity_service.transport.quotas import Peers
from identity_shared.token_ids import hash_token_id, unverified_token_id

_HEADER: Final = "authorization"
_NEEDED: Final = (
    "this method needs metadata `authorization: Bearer <access token>`, or DPoP if the token is bound to a "
    "key, for audience "
)


@dataclass(frozen=True, slots=True)
class CallerGate:
    """A gate that enforces the access rule of a method on one call."""

    verifier: Verifier[Any]
    directory: Directory
    audit: AuditTrail
    peers: Peers
    dpop: DpopProofs
    proofs: CallProofs
    """Reads the DPoP proofs of calls."""
    _: KW_ONLY
    audience: str
    require_caller_auth: bool

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
                return self.require_caller_auth
            case Access.HOLDER_OR_SCOPE:
                # A client that can send a token holds it, so the token is its own proof. A request without a
                # target is refused as invalid later, for every caller.
                return request.WhichOneof("target") not in ("token", None)

    def admit(
        self, method: str, rule: Rule, context: grpc.ServicerContext, *, may_wait: bool = True
    ) -> Caller:
        """Return the caller; it has the rule's scope unless the rule allows access to its own objects.

        A refusal is recorded as an audit event.

        Raises CallerUnauthenticatedError, CallerScopeMissingError, DpopProofRefusedError,
        DpopNonceRequiredError, UnavailableError; StoreReadRequiredError if `may_wait` is false, and the
        answer needs a read of the store or the check of a proof.
        """
        try:
            return self._admit(method, rule, context, may_wait=may_wait)
        except (CallerUnauthenticatedError, CallerScopeMissingError, DpopProofRefusedError) as error:
            # A response may be cached, so calls of Verify bind nothing before they fail.
            bind_trace(context)
            certificate = client_certificate_of(context, self.peers)
            origin = Origin(peer=client_of(context, self.peers), certificate=certificate)
            record_refusal(self.audit, AuditType.CALL_REFUSED, error, origin, target=method)
            raise

    def _admit(self, method: str, rule: Rule, context: grpc.ServicerContext, *, may_wait: bool) -> Caller:
        values = [value for key, value in context.invocation_metadata() if key == _HEADER]
        certificate = client_certificate_of(context, self.peers)
        if values:
            scheme, text = self._authorization(values)
            if scheme is TokenType.BEARER:
                caller = self._by_token(text, certificate, None, may_wait=may_wait)
            else:
                caller = self._by_bound_token(text, certificate, method, context, may_wait=may_wait)
        else:
            caller = self._by_certificate(certificate, rule.scope, may_wait=may_wait)
        may_own = rule.access is Access.OWN_OR_SCOPE and not caller.is_delegated
        if not may_own and rule.scope not in caller.scopes:
            raise CallerScopeMissingError(f"the caller lacks the scope {rule.scope}")
        return caller

    def _authorization(self, values: Sequence[str | bytes]) -> tuple[TokenType, str]:
        """Return the scheme and the token of the metadata `authorization`."""
        if len(values) == 1 and isinstance(values[0], str):
            scheme, _, text = values[0].partition(" ")
            for kind in TokenType:
                if scheme.lower() == kind.lower():
                    return kind, text
        raise self._unauthenticated()

    def _by_bound_token(
        self,
        text: str,
        certificate: PeerCertificate | None,
        method: str,
        context: grpc.ServicerContext,
        *,
        may_wait: bool,
    ) -> Caller:
        """Return the caller with a token that is bound to a key, after checking the proof by that key."""
        if not may_wait:
            # A thread verifies the signature of the proof; an event loop would be held up by it. The call
            # must not be checked twice either, since its proof works once.
            raise StoreReadRequiredError
        presented = self.proofs.shown(method, context)
        if presented is None:
            raise CallerUnauthenticatedError(f"the scheme DPoP needs a proof in metadata `{PROOF}`")
        proof = self.dpop.check(presented, access_token=text)
        caller = self._by_token(text, certificate, proof, may_wait=True)
        self.dpop.consume_here(proof)
        context.set_trailing_metadata(self.proofs.next_nonce())
        return caller

    def _by_token(
        self, text: str, certificate: PeerCertificate | None, proof: DpopProof | None, *, may_wait: bool
    ) -> Caller:
        answer = self.verifier.verify(
            VerifyRequest(
                token=text,
                audiences=(self.audience,),
                certificate_sha256=sha256_of(certificate),
                key_sha256=proof.key_sha256 if proof is not None else b"",
                may_wait=may_wait,
            )
        )
        if isinstance(answer, Rejected):
            raise CallerUnauthenticatedError(
                f"the caller's token was rejected: {answer.reason}",
                token_id_sha256=hash_token_id(unverified_token_id(text)),
            )
        token = answer.token
        return Caller(
            principal=token.subject,
            scopes=frozenset(token.scopes),
            session_id=token.session_id,
            is_delegated=bool(token.actors),
            is_revoked=partial(self.verifier.is_revoked, answer),
        )

    def _by_certificate(self, certificate: PeerCertificate | None, scope: str, *, may_wait: bool) -> Caller:
        if certificate is None:
            raise self._unauthenticated()
        client = self.directory.client_of(certificate, may_wait=may_wait)
        if client is None or client.disabled:
            raise self._unauthenticated()

        def is_revoked() -> bool:
            now = self.directory.client_of(certificate)
            return now is None or now.disabled or scope not in now.scopes

        return Caller(principal=client.client_id, scopes=client.scopes, is_revoked=is_revoked)

    def _unauthenticated(self) -> CallerUnauthenticatedError:
        return CallerUnauthenticatedError(f"{_NEEDED}{self.audience!r}, or a client certificate")
