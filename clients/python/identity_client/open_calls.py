"""The open streaming calls of a guard: which ones a revocation, a retired key or the expiry of a token ends.

The calls are found by the names by which their tokens can be revoked; the verifier then decides on each token
again. Staleness of the verifier ends no open call.
"""

import heapq
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from identity_client.caller import Caller
from identity_client.freshness import wall
from identity_client.refusal import RefusedError, ended, failed, unavailable
from identity_client.trust import GenerationRaised, Revocation, SessionEnded, TokenDenied
from identity_client.verifier_core import TokenNames, VerifierCore

_log: Final = logging.getLogger("identity_client.guard")
LONGEST_WAIT: Final = 5.0
"""The longest pause between two looks at the expiry times, in seconds, since the wall clock may be set."""
_SHORTEST_WAIT: Final = 0.05
_SPARE_EXPIRIES: Final = 64
"""The number of expiry times of ended calls that are kept until they are removed together."""


Note: TypeAlias = Callable[[str, str], object]


def ignore(event: str, reason: str) -> None:
    """Do nothing with an event."""


class OpenCall:
    """One streaming call that its token may end."""

    __slots__ = ("_callbacks", "_lock", "cancel", "done", "refusal", "token")

    def __init__(self, caller: Caller, cancel: Callable[[], object]) -> None:
        """Create a call, which gets the functions of `Caller.on_ended`.

        Args:
            caller: the caller of the call.
            cancel: cancels the call at its transport; it must not block.
        """
        self.token = caller.token
        self.cancel = cancel
        self.refusal: RefusedError | None = None
        """The reason for which the token has ended the call; None = it has not."""
        self.done = False
        """True if the call has ended, for whatever reason."""
        self._callbacks: list[Callable[[str], object]] = []
        self._lock = threading.Lock()
        caller.attach(self)

    def on_ended(self, callback: Callable[[str], object]) -> None:
        """Have a function called with the reason; at once if the token has ended the call already."""
        with self._lock:
            if self.refusal is None:
                self._callbacks.append(callback)
                return
            reason = self.refusal.reason
        callback(reason)

    def refuse(self, refusal: RefusedError) -> None:
        """Let no further message pass, and call the functions of `on_ended`."""
        with self._lock:
            if self.done or self.refusal is not None:
                return
            self.refusal = refusal
        for callback in self._callbacks:
            try:
                callback(refusal.reason)
            except BaseException:  # noqa: BLE001  # this call and the others end, whatever a handler does
                _log.exception("A function that was to be called at the end of a call has failed")

    def check(self) -> None:
        """Raise the RefusedError if the token has ended the call."""
        if self.refusal is not None:
            raise self.refusal


class _Token:
    """A token with open calls."""

    __slots__ = ("calls", "names")

    def __init__(self, names: TokenNames) -> None:
        self.names = names
        self.calls: set[OpenCall] = set()


class OpenCalls:
    """The base class of the sets of open calls; a subclass says when to look, and how to end a call."""

    def __init__(self, verifier: VerifierCore, note: Note = ignore) -> None:
        """Create an empty set; the subclass passes the verifier's events to `apply` and `check_all`.

        Args:
            verifier: the verifier whose revocations end the calls.
            note: is called with `ended` and the reason for each call that its token ends.
        """
        self._verifier = verifier
        self._note = note
        self._mutex = threading.Lock()
        self._tokens: dict[str, _Token] = {}
        self._named: dict[str, set[str]] = {}
        """A map from token ids, session ids and principals to the tokens with that name."""
        self._expiries: list[tuple[float, str]] = []
        """A heap of tokens by the time at which they expire, in Unix seconds."""

    def sizes(self) -> tuple[int, int, int]:
        """Return the numbers of tokens with open calls, of their names, and of the expiry times kept."""
        with self._mutex:
            return len(self._tokens), len(self._named), len(self._expiries)

    def add(self, call: OpenCall) -> None:
        """Add a call whose token was verified. Raises RefusedError if the token is refused by now.

        A revocation that arrived after the token was verified and before the call was added is found here;
        one that arrives later finds the call.
        """
        try:
            names = self._verifier.names(call.token)
        except ValueError:
            # The service was asked, and here nothing is known that could end the call.
            raise unavailable() from None
        with self._mutex:
            token = self._tokens.get(call.token)
            if token is None:
                token = self._tokens[call.token] = _Token(names)
                for name in _all(names):
                    self._named.setdefault(name, set()).add(call.token)
                heapq.heappush(self._expiries, (names.valid_until, call.token))
            token.calls.add(call)
        self._added(names.valid_until)
        refusal = self._judge(call.token)
        if refusal is not None:
            self.remove(call)
            raise refusal

    def check(self, call: OpenCall) -> None:
        """Raise the RefusedError if a call that is not in this set has a token that is refused by now."""
        try:
            self._verifier.names(call.token)
        except ValueError:
            return  # the service was asked, and here nothing is known that could end the call
        refusal = self._judge(call.token)
        if refusal is not None:
            self._note("ended", refusal.reason)
            call.refuse(refusal)
            raise refusal

    def remove(self, call: OpenCall) -> None:
        """Remove a call that has ended; it may have been removed already."""
        call.done = True
        with self._mutex:
            token = self._tokens.get(call.token)
            if token is not None:
                token.calls.discard(call)
                if not token.calls:
                    self._forget(call.token, token.names)

    def apply(self, revocations: Iterable[Revocation]) -> None:
        """End the calls whose tokens these revocations refuse."""
        names = {_name(revocation) for revocation in revocations}
        with self._mutex:
            found = {token for name in names for token in self._named.get(name, ())}
        self._end_refused(found)

    def check_all(self) -> None:
        """End the calls whose tokens are refused, after the published keys have changed."""
        with self._mutex:
            found = set(self._tokens)
        self._end_refused(found)

    def expire(self) -> float | None:
        """End the calls whose tokens have expired; return the seconds until the next look, None = never."""
        now = wall()
        due: set[str] = set()
        with self._mutex:
            while self._expiries and self._expiries[0][0] <= now:
                due.add(heapq.heappop(self._expiries)[1])
        self._end_refused(due)
        with self._mutex:
            # A token that the verifier does not refuse yet: the wall clock was set back meanwhile.
            for token in due & self._tokens.keys():
                heapq.heappush(self._expiries, (self._tokens[token].names.valid_until, token))
            if not self._expiries:
                return None
            return min(max(self._expiries[0][0] - now, _SHORTEST_WAIT), LONGEST_WAIT)

    def _added(self, valid_until: float) -> None:
        """Look at the expiry times not later than at this time."""
        raise NotImplementedError

    def _end(self, call: OpenCall, refusal: RefusedError) -> None:
        """End a call that its token has ended."""
        raise NotImplementedError

    def _end_refused(self, tokens: Iterable[str]) -> None:
        for text in tokens:
            refusal = self._judge(text)
            if refusal is None:
                continue
            with self._mutex:
                token = self._tokens.get(text)
                calls = tuple(token.calls) if token is not None else ()
                if token is not None:
                    self._forget(text, token.names)
            for call in calls:
                self._note("ended", refusal.reason)
                self._end(call, refusal)

    def _judge(self, token: str) -> RefusedError | None:
        try:
            rejected = self._verifier.why_ended(token)
        except Exception:  # noqa: BLE001  # whatever failed, the call is ended
            _log.exception("the token of an open call could not be verified")
            return failed()
        return ended(rejected, token) if rejected is not None else None

    def _forget(self, text: str, names: TokenNames) -> None:
        """Remove a token; the caller holds the mutex."""
        del self._tokens[text]
        for name in _all(names):
            tokens = self._named[name]
            tokens.discard(text)
            if not tokens:
                del self._named[name]
        if len(self._expiries) > 2 * len(self._tokens) + _SPARE_EXPIRIES:
            self._expiries = [(token.names.valid_until, text) for text, token in self._tokens.items()]
            heapq.heapify(self._expiries)


def _all(names: TokenNames) -> frozenset[str]:
    """Return all names of a token. Ids are random texts, so none of them equals a principal by chance.

    If one did, its calls would be looked at without need, and go on.
    """
    return names.principals | ({names.token_id, names.session_id} - {""})


def _name(revocation: Revocation) -> str:
    match revocation:
        case TokenDenied(token_id=name) | SessionEnded(session_id=name) | GenerationRaised(principal=name):
            return name
