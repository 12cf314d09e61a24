"""The load of the soak: calls of every kind, and the check of their answers.

The module knows no processes. A call that begins after the Revoke of a token has returned must reject the
token; a call that ends before the Revoke was sent must verify it; in between both answers are right.
"""

import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

_SERVICE: Final = "/identityapi.v1.IdentityService/"
_HOT: Final = 1000
"""The number of tokens that are verified repeatedly; each is replaced by a new one at some time."""
_WAITING: Final = 200
"""The largest number of new tokens that wait for their first Verify; they are few, so that they have not
expired by then."""
_REMEMBERED: Final = 500
"""The number of revoked tokens that are verified again."""
_BATCH: Final = 10
_FIRST: Final = 128
"""The number of calls at the beginning that are all Refresh. More of them are in flight than the service has
threads, and each needs a connection to Redis: so the pools reach their size at once."""
_MIX: Final = {
    "seen": 780,
    "new": 60,
    "bad": 50,
    "issue": 40,
    "refresh": 30,
    "revoked": 20,
    "revoke": 15,
    "batch": 5,
}
"""The number of calls of each kind in a thousand."""
_GONE: Final = frozenset({pb.REJECTION_REASON_REVOKED, pb.REJECTION_REASON_EXPIRED})


@dataclass(eq=False, slots=True)
class Token:
    """An access token, and when it was revoked. Times are monotonic, except for its expiry."""

    text: str
    token_id: str
    expires: float
    revoke_begun: float = float("inf")
    revoke_ended: float = float("inf")


@dataclass(frozen=True, slots=True)
class When:
    """The times when a call was made, and when its answer had arrived."""

    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make, and the check of its answer, which returns the fault or the empty text."""

    kind: str
    path: str
    request: bytes
    accept: Callable[[bytes, When], str]


class Mix:
    """The mix of calls. Not thread-safe: the caller holds a lock."""

    def __init__(
        self, issue: bytes, refresh_tokens: Sequence[str], audience: str, *, leeway: float, seed: int = 1
    ) -> None:
        """Mix calls.

        `issue` is a request that returns a token for `audience`; `leeway` is that of the service, in seconds.
        """
        self._issue = issue
        self._audience = audience
        self._leeway = leeway
        self._random = random.Random(seed)  # noqa: S311  # a load, no secret
        self._chains = deque(refresh_tokens)
        self._new: deque[Token] = deque(maxlen=_WAITING)
        self._hot: list[Token] = []
        self._revoked: deque[Token] = deque(maxlen=_REMEMBERED)
        self._just_revoked: deque[Token] = deque()
        self._makers: dict[str, Callable[[], Call]] = {
            "seen": self._verify_seen,
            "new": self._verify_new,
            "issue": self._issue_one,
            "refresh": self._refresh,
            "bad": self._verify_bad,
            "revoked": self._verify_revoked,
            "revoke": self._revoke,
            "batch": self._batch,
        }
        self.counts: Counter[str] = Counter()
        self.revoked = 0
        """The number of tokens that were revoked while they were good; only those revocations are in the
        log."""

    def next(self) -> Call:
        """Return the next call to make."""
        if self.counts.total() < _FIRST:
            call = self._refresh()
        elif self._just_revoked:
            call = self._verify(self._just_revoked.popleft(), "revoked")
        else:
            (kind,) = self._random.choices([*_MIX], [*_MIX.values()])
            call = self._makers[kind]()
        self.counts[call.kind] += 1
        return call

    def _issue_one(self) -> Call:
        def accept(answer: bytes, _: When) -> str:
            return self._take_in(pb.IssueResponse.FromString(answer).token_set)

        return _call("issue", "Issue", self._issue, accept)

    def _refresh(self) -> Call:
        if not self._chains:
            return self._issue_one()
        shown = self._chains.popleft()

        def accept(answer: bytes, _: When) -> str:
            given = pb.RefreshResponse.FromString(answer).token_set
            if not given.refresh_token or given.refresh_token == shown:
                return "no next refresh token"
            self._chains.append(given.refresh_token)
            return self._take_in(given)

        return _call("refresh", "Refresh", pb.RefreshRequest(refresh_token=shown), accept)

    def _take_in(self, given: token_pb2.TokenSet) -> str:
        if given.access_token.count(".") != 2 or not given.token_id:
            return "no access token"
        self._new.append(Token(given.access_token, given.token_id, given.expire_time.seconds))
        return ""

    def _verify_new(self) -> Call:
        if not self._new:
            return self._issue_one()
        token = self._new.popleft()
        if len(self._hot) < _HOT:
            self._hot.append(token)
        else:
            self._hot[self._random.randrange(_HOT)] = token
        return self._verify(token, "new")

    def _verify_seen(self) -> Call:
        return self._verify(self._random.choice(self._hot), "seen") if self._hot else self._verify_new()

    def _verify_revoked(self) -> Call:
        if not self._revoked:
            return self._verify_seen()
        return self._verify(self._random.choice(self._revoked), "revoked")

    def _verify(self, token: Token, kind: str) -> Call:
        def accept(answer: bytes, when: When) -> str:
            return self._judge(pb.VerifyResponse.FromString(answer), token, when)

        return _call(kind, "Verify", self._asking(token.text), accept)

    def _verify_bad(self) -> Call:
        text, reason = self._bad_token()

        def accept(answer: bytes, _: When) -> str:
            return _bad_outcome(pb.VerifyResponse.FromString(answer), reason)

        return _call("bad", "Verify", self._asking(text), accept)

    def _bad_token(self) -> tuple[str, pb.RejectionReason]:
        """Return a new bad token, and the reason with which it must be rejected.

        If the service remembered bad tokens, its memory would grow.
        """
        if not self._hot or self._random.random() < 0.5:
            return f"{secrets.token_urlsafe(24)}.{secrets.token_urlsafe(64)}", pb.REJECTION_REASON_MALFORMED
        signed = self._random.choice(self._hot).text.rpartition(".")[0]
        # 64 bytes as ES256 has them, of which the last two bits of the text are zero.
        return f"{signed}.{secrets.token_urlsafe(63)}AA", pb.REJECTION_REASON_BAD_SIGNATURE

    def _batch(self) -> Call:
        if not self._hot:
            return self._verify_new()
        tokens = self._random.choices([*self._hot, *self._revoked], k=_BATCH)
        bad, reason = self._bad_token()
        texts = [*(token.text for token in tokens), bad]
        request = pb.VerifyBatchRequest(requests=[self._asking(text) for text in texts])

        def accept(answer: bytes, when: When) -> str:
            responses = pb.VerifyBatchResponse.FromString(answer).responses
            if len(responses) != len(texts):
                return f"{len(responses)} answers to {len(texts)} of a batch"
            wrong = (self._judge(*pair, when) for pair in zip(responses, tokens, strict=False))
            return next(filter(None, wrong), "") or _bad_outcome(responses[-1], reason)

        return _call("batch", "VerifyBatch", request, accept)

    def _revoke(self) -> Call:
        if len(self._hot) < _HOT // 2:
            return self._verify_new()
        token = self._hot.pop(self._random.randrange(len(self._hot)))
        token.revoke_begun = time.monotonic()

        def accept(answer: bytes, when: When) -> str:
            token.revoke_ended = when.ended
            self.revoked += time.time() < token.expires
            self._revoked.append(token)
            self._just_revoked.append(token)
            return "" if pb.RevokeResponse.FromString(answer).revision else "no revision"

        return _call("revoke", "Revoke", pb.RevokeRequest(token=token.text), accept)

    def _asking(self, text: str) -> pb.VerifyRequest:
        return pb.VerifyRequest(token=text, audiences=[self._audience])

    def _judge(self, response: pb.VerifyResponse, token: Token, when: When) -> str:
        to_wall = time.time() - time.monotonic()
        if response.WhichOneof("outcome") == "verified":
            if response.verified.token_id != token.token_id:
                return "the claims of another token"
            if when.begun > token.revoke_ended:
                return "a revoked token was verified"
            late = when.begun + to_wall > token.expires + self._leeway + 1
            return "an expired token was verified" if late else ""
        reason = response.rejected.reason
        if reason not in _GONE:
            return f"rejected as {pb.RejectionReason.Name(reason)}"
        if reason == pb.REJECTION_REASON_EXPIRED:
            return "" if when.ended + to_wall > token.expires - 1 else "rejected as expired before its time"
        return "" if when.ended > token.revoke_begun else "rejected as revoked before it was"


def _bad_outcome(response: pb.VerifyResponse, reason: pb.RejectionReason) -> str:
    if response.rejected.reason == reason:
        return ""
    return f"a bad token: {response.WhichOneof('outcome')} instead of {pb.RejectionReason.Name(reason)}"


def _call(
    kind: str,
    method: str,
    request: bytes | pb.VerifyRequest | pb.VerifyBatchRequest | pb.RefreshRequest | pb.RevokeRequest,
    accept: Callable[[bytes, When], str],
) -> Call:
    def safely(answer: bytes, when: When) -> str:
        try:
            return accept(answer, when)
        except DecodeError:
            return "an answer that is none"

    data = request if isinstance(request, bytes) else request.SerializeToString()
    return Call(kind, _SERVICE + method, data, safely)
