"""The decision of all guards: whether a call may proceed, by its policy, its token and the verifier.

It knows no transport. Whatever fails, the call is refused.
"""

import inspect
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeAlias

import grpc

from identity_client.caller import Caller
from identity_client.policy import ASK, AllowFor, Requirement
from identity_client.refusal import REJECTION_REASON, RefusedError, failed, naming, refuse, unavailable
from identity_client.trust_follower import NotFreshError
from identity_client.values import Rejected, Verified
from identity_client.verifier_core import VerifierCore

_log: Final = logging.getLogger("identity_client.guard")
_NOTHING: Final = timedelta(0)
_NO_TOKEN: Final = "this method needs `authorization: Bearer <access token>`"  # noqa: S105  # a message
_NO_PROOFS: Final = "this service takes no DPoP proofs, so it cannot accept a token that is bound to a key"
_STALE_LOG_INTERVAL: Final = 60.0
"""Seconds between two messages about a verifier that is stale, since each call finds it so."""
_MAX_LOGGED: Final = 1000
"""The number of methods without an entry that are remembered, since clients choose their names."""
_MAX_LOGGED_CHARS: Final = 200
"""The characters of such a name that are logged and remembered. A path over HTTP may have 64 KiB."""


@dataclass(frozen=True, slots=True)
class Question:
    """A token that only the service can verify now."""

    token: str = field(repr=False)
    requirement: Requirement
    certificate_sha256: bytes


class AskError(Exception):
    """The verifier is stale, and the policy says to ask the service.

    Attributes:
        question: the arguments of the Verify RPC.
    """

    def __init__(self, question: Question) -> None:
        super().__init__("the service must be asked")
        self.question = question


Observe: TypeAlias = Callable[[str, str], object]
"""A function of the program that counts what a guard does. It is called for each call with `admitted` and "",
with `refused` and the reason, or, when a token ends an open call, with `ended` and the reason."""


def _without_certificate(_: object) -> bytes:
    """Return that a connection has no client certificate."""
    return b""


class Admission:
    """Decides on calls; guards of all transports have one. Any thread may use it."""

    def __init__(
        self,
        verifier: VerifierCore,
        observe: Observe | None = None,
        certificate: Callable[[Any], bytes] = _without_certificate,
    ) -> None:
        """Decide by the tokens of calls.

        Args:
            verifier: verifies the tokens.
            observe: is called with each decision; None = nothing is called.
            certificate: returns the SHA-256 of the client certificate of a connection; b"" = none. It is
                called only for a token that is bound to one.

        Raises TypeError if the verifier is something else, such as the policy.
        """
        verify = getattr(verifier, "verify", None)
        if not callable(verify) or inspect.iscoroutinefunction(verify):
            raise TypeError(
                f"a guard needs a LocalVerifier or AsyncLocalVerifier as its verifier, not {type(verifier)}"
            )
        self._verifier = verifier
        self._observe = observe
        self._certificate = certificate
        self._lock = threading.Lock()
        self._logged: set[str] = set()
        self._stale_calls: Counter[str] = Counter()
        self._stale_logged = -math.inf
        """The time of the last message about a stale verifier, in seconds by the monotonic clock."""

    @property
    def stale_calls(self) -> Mapping[str, int]:
        """Return how many calls found the verifier stale: `refused`, `asked` and `allowed`."""
        with self._lock:
            return dict(self._stale_calls)

    def policy_failed(self) -> RefusedError:
        """Log the exception of a policy; count and return the refusal of the call."""
        _log.exception("the policy failed")
        return self._noted(failed())

    def without_entry(self, method: str) -> RefusedError:
        """Count and return the refusal of a call whose method has no entry in the policy."""
        name = method[:_MAX_LOGGED_CHARS]
        with self._lock:
            is_new = name not in self._logged and len(self._logged) < _MAX_LOGGED
            if is_new:
                self._logged.add(name)
        if is_new:
            _log.warning("calls of %r are refused: the access policy has no entry for it", name)
        return self._noted(
            RefusedError(
                grpc.StatusCode.PERMISSION_DENIED,
                "METHOD_NOT_ALLOWED",
                "the access policy of this service has no entry for this method",
            )
        )

    def admit(self, requirement: Requirement, values: Sequence[object], connection: object) -> Caller:
        """Return the caller if the token meets the requirement of the method.

        Args:
            requirement: that of the method; not a public one.
            values: the values of the header or metadata `authorization`.
            connection: what the function `certificate` is called with, such as the context of the call.

        Raises RefusedError; AskError if the service must be asked.
        """
        try:
            value = values[0] if len(values) == 1 else None
            token = value[7:] if isinstance(value, str) and value.startswith("Bearer ") else ""
            if not token:  # only few calls get here
                token = _bearer(values)
            try:
                outcome = self._verifier.verify(
                    token, audiences=requirement.audiences, required_scopes=requirement.scopes
                )
                if not isinstance(outcome, Verified):
                    outcome = self._reconsider(outcome, token, requirement, connection, _NOTHING)
            except NotFreshError as error:
                outcome = self._verify_stale(error, token, requirement, connection)
        except AskError:
            raise
        except RefusedError as refusal:
            raise self._noted(refusal) from None
        except Exception:  # noqa: BLE001  # whatever failed, the call is refused
            _log.exception("a token could not be verified")
            raise self._noted(failed()) from None
        if self._observe is not None:
            self.note("admitted")
        return Caller(outcome, token)

    def conclude(self, question: Question, outcome: object) -> Caller:
        """Return the caller that the service's answer to a question names. Raises RefusedError."""
        try:
            caller = self._concluded(question, outcome)
        except RefusedError as refusal:
            raise self._noted(refusal) from None
        self.note("admitted")
        return caller

    def unanswered(self) -> RefusedError:
        """Count and return the refusal of a call about which the service was asked, and has not answered."""
        return self._noted(self._unavailable())

    def note(self, event: str, reason: str = "") -> None:
        """Call the program's `observe`. An exception that it raises is logged, and changes no decision."""
        if self._observe is None:
            return
        try:
            self._observe(event, reason)
        except Exception:  # noqa: BLE001  # a program that cannot count still serves
            _log.exception("the function `observe` of a guard has failed")

    def _noted(self, refusal: RefusedError) -> RefusedError:
        self.note("refused", refusal.reason)
        return refusal

    def _concluded(self, question: Question, outcome: object) -> Caller:
        known = self._verifier.why_ended(question.token)
        if isinstance(outcome, Verified) and known is not None and known.reason == "REVOKED":
            outcome = known  # the replica that answered has not read the revocation yet
        if isinstance(outcome, Rejected):
            refuse(outcome, question.token, question.requirement.scopes)
        if not isinstance(outcome, Verified):
            _log.error("the guard needs a client of its own kind: this one answers with %s", type(outcome))
            raise failed()
        return Caller(outcome, question.token)

    def _unavailable(self) -> RefusedError:
        self._count("refused")
        return unavailable()

    def _verify_stale(
        self, error: NotFreshError, token: str, requirement: Requirement, connection: object
    ) -> Verified:
        """Return the claims if the method admits the token while the verifier is stale."""
        self._log_stale(error)
        on_stale = requirement.on_stale
        if on_stale is ASK:
            self._count("asked")
            raise AskError(Question(token, requirement, self._certificate(connection)))
        if not isinstance(on_stale, AllowFor):
            raise self._unavailable()
        try:
            outcome = self._verifier.verify(
                token,
                audiences=requirement.audiences,
                required_scopes=requirement.scopes,
                max_extra_staleness=on_stale.duration,
            )
            if not isinstance(outcome, Verified):
                outcome = self._reconsider(outcome, token, requirement, connection, on_stale.duration)
        except NotFreshError:
            raise self._unavailable() from None
        self._count("allowed")
        return outcome

    def _reconsider(
        self,
        outcome: object,
        token: str,
        requirement: Requirement,
        connection: object,
        extra: timedelta,
    ) -> Verified:
        """Return the claims if a token that was rejected is valid with the certificate of the connection."""
        if isinstance(outcome, Rejected) and outcome.reason == "BINDING_MISMATCH":
            # Only now, since few tokens are bound, and reading the certificate takes longer than all else.
            outcome = self._verifier.verify(
                token,
                audiences=requirement.audiences,
                required_scopes=requirement.scopes,
                certificate_sha256=self._certificate(connection),
                max_extra_staleness=extra,
            )
        if isinstance(outcome, Verified):
            return outcome
        if isinstance(outcome, Rejected):
            refuse(outcome, token, requirement.scopes)
        _log.error("the guard needs a verifier that returns Verified or Rejected, not %s", type(outcome))
        raise failed()

    def _log_stale(self, error: NotFreshError) -> None:
        now = time.monotonic()
        with self._lock:
            is_due = now >= self._stale_logged + _STALE_LOG_INTERVAL
            if is_due:
                self._stale_logged = now
        if is_due:
            _log.warning("the verifier cannot verify tokens now: %s", error)

    def _count(self, answer: str) -> None:
        with self._lock:
            self._stale_calls[answer] += 1


def _bearer(values: Sequence[object]) -> str:
    """Return the token of the only value of `authorization`. Raises RefusedError."""
    if len(values) != 1:
        detail = "the call has more than one token" if values else _NO_TOKEN
        raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED", detail)
    value = values[0]
    scheme, _, token = value.partition(" ") if isinstance(value, str) else ("", "", "")
    if scheme.lower() == "bearer" and token:
        return token
    metadata, detail = {}, _NO_TOKEN
    if scheme.lower() == "dpop":
        metadata, detail = {**naming(token), REJECTION_REASON: "BINDING_MISMATCH"}, _NO_PROOFS
    raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED", detail, metadata=metadata)
