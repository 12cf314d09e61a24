"""The caller of the call that is being handled, as its token says.

from identity_client.grpc import caller

def Delete(self, request, context):
    caller().require_scope("reports.delete")
    log.info("deleted by %s", caller().subject)
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Final, Protocol

import grpc

from identity_client.refusal import RefusedError
from identity_client.values import Actor, Verified


class Ending(Protocol):
    """The part of an open call that tells when its token has ended it."""

    def on_ended(self, callback: Callable[[str], object]) -> None:
        """Have a function called with the reason; at once if the token has ended the call already."""


class Caller:
    """The verified caller of one call. Its `repr` shows no token."""

    __slots__ = ("_call", "_verified", "token")

    def __init__(self, verified: Verified, token: str) -> None:
        """Create a caller from a verified token and its claims."""
        self._verified = verified
        self._call: Ending | None = None
        self.token = token
        """The access token as received, such as for a token exchange (RFC 8693)."""

    def __repr__(self) -> str:
        found = self._verified
        return f"Caller(subject={found.subject!r}, client_id={found.client_id!r}, scopes={found.scopes!r})"

    @property
    def subject(self) -> str:
        """Return the principal that the token speaks for (`sub`)."""
        return self._verified.subject

    @property
    def client_id(self) -> str:
        """Return the client that the token was issued to."""
        return self._verified.client_id

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the scopes of the token."""
        return self._verified.scopes

    @property
    def session_id(self) -> str:
        """Return the session of the token (`sid`); empty for tokens of clients."""
        return self._verified.session_id

    @property
    def token_id(self) -> str:
        """Return the id of the token (`jti`)."""
        return self._verified.token_id

    @property
    def actors(self) -> tuple[Actor, ...]:
        """Return the parties that act for the subject (`act`), the current actor first; empty = none."""
        return self._verified.actors

    @property
    def claims(self) -> Mapping[str, object]:
        """Return all other claims of the token."""
        return self._verified.claims

    @property
    def expire_time(self) -> datetime:
        """Return the time at which the token expires, an aware datetime in UTC."""
        return self._verified.expire_time

    @property
    def verified(self) -> Verified:
        """Return all that the verifier found in the token."""
        return self._verified

    def require_scope(self, scope: str) -> None:
        """Raise RefusedError unless the token has this scope; the guard then sends PERMISSION_DENIED."""
        if scope not in self._verified.scopes:
            raise RefusedError(
                grpc.StatusCode.PERMISSION_DENIED,
                "CALLER_SCOPE_MISSING",
                f"the caller's token lacks the scope {scope}",
                scopes=(scope,),
            )

    def on_ended(self, callback: Callable[[str], object]) -> None:
        """Have a function called if the token ends this call before the call ends by itself.

        It receives the reason, TOKEN_REVOKED or TOKEN_EXPIRED, in the guard's own thread or in the event
        loop, so it must not block. For calls without streams it is never called once their request has
        arrived: they finish.
        """
        if self._call is not None:
            self._call.on_ended(callback)

    def attach(self, call: Ending) -> None:
        """Pass the functions of `on_ended` on to this open call; for guards."""
        self._call = call


current: Final[ContextVar[Caller | None]] = ContextVar("identity_client.caller", default=None)
"""The caller of the call that this thread or task handles; guards set it."""


def caller() -> Caller:
    """Return the caller of the call that is being handled.

    Raises RuntimeError outside of a call that a guard protects, and in a public method.
    """
    found = current.get()
    if found is None:
        raise RuntimeError(
            "there is no caller here: this code runs in a public method, in a thread that a handler started, "
            "or in a server without a Guard; use caller_or_none() if that is intended"
        )
    return found


def caller_or_none() -> Caller | None:
    """Return the caller of the call that is being handled; None in a public method or outside of a call."""
    return current.get()
