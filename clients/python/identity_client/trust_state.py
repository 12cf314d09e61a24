"""What a watch has told: the published keys and everything that was taken back. Knows no token's text.

Facts only grow: a denial may be extended, never shortened, a generation raised, never lowered. One thread
folds; others read without a lock, since every change is one assignment.
"""

import math
from collections.abc import Mapping

from identity_client.access_tokens import KEY, SignedToken, VerifyingKey, open_key
from identity_client.trust import GenerationRaised, KeySet, SessionEnded, TokenDenied, WatchEvent

_BUCKET_SECONDS = 60
_RAISED = "all tokens of one of the token's principals were revoked"
RETIRED = "a key that the token was made with was retired"
LOST = "the token was issued in a history of the store that was lost"
_TORN = "\0"
"""In place of the links of two histories: no token was issued under both."""


class TrustState:
    """Keys, denials and generations, as far as one watch has told them."""

    def __init__(self) -> None:
        self.keys: Mapping[str, VerifyingKey] = {}
        self.denied: dict[str, int] = {}
        """Token and session ids → the minute when the denial ends."""
        self.generations: dict[str, tuple[int, str]] = {}
        self.revision = ""
        """All up to here has been told; empty = nothing yet."""
        self.complete = False
        """Whether everything that is live has been told, and not only a part of it."""
        self._unproven: dict[str, tuple[int, str]] = {}
        """Generations that were told before everything was told anew, and that have not been told since."""
        self._opened: dict[tuple[str, str], VerifyingKey] = {}
        self._buckets: dict[int, list[str]] = {}

    def fold(self, news: WatchEvent) -> None:
        """Know what this message says. Raises ValueError: a key in it is none."""
        if news.restarted:
            self._unproven = self.generations | self._unproven
        for revocation in news.revocations:
            match revocation:
                case TokenDenied(token_id=id_, deny_until=until):
                    self._deny(id_, until.timestamp())
                case SessionEnded(session_id=id_, deny_until=until):
                    self._deny(id_, until.timestamp())
                case GenerationRaised(principal=principal, number=number, link=link):
                    self._raise(principal, number, link)
        if news.keys is not None:
            self._take(news.keys)
        if news.restarted:
            self.start_over()  # a stream that ends before the next revision is not resumed at an older one
        if news.revision:
            self.revision = news.revision
            self.complete = True

    def start_over(self) -> None:
        """Have everything told anew; what is known stays known, and is not all until then."""
        self.revision = ""
        self.complete = False

    def evict(self, before: float) -> None:
        """Forget the denials that ended before then, in Unix seconds."""
        current = math.floor(before / _BUCKET_SECONDS)
        for minute in [minute for minute in self._buckets if minute < current]:
            for id_ in self._buckets.pop(minute):
                if self.denied.get(id_) == minute:  # else it was extended
                    del self.denied[id_]

    def why_revoked(self, token: SignedToken, principals: frozenset[str]) -> str | None:
        """A sentence that says which level revoked the token, or None while none did."""
        says = token.says
        if says.token_id in self.denied:
            return "the token was revoked"
        if says.session_id in self.denied:
            return "the token's session has ended"
        # In this direction: those who were ever raised may be many, and are never forgotten.
        if self.generations and not self.generations.keys().isdisjoint(principals):
            for principal in principals:
                if self._is_raised_over(principal, token.generations.get(principal)):
                    return RETIRED if principal.startswith(KEY) else _RAISED
        return None

    def is_ahead(self, token: SignedToken) -> bool:
        """Whether the token names a higher generation than was told: it is newer, or of a lost history."""
        for principal, (number, _) in token.generations.items():
            known = self.generations.get(principal)
            if number > (known[0] if known is not None else 0):
                return True
        return False

    def _is_raised_over(self, principal: str, held: tuple[int, str] | None) -> bool:
        raised = self.generations.get(principal)
        if raised is None:
            return False
        return held is None or raised[0] > held[0] or (raised[0] == held[0] and raised[1] != held[1])

    def _deny(self, id_: str, until: float) -> None:
        minute = math.ceil(until / _BUCKET_SECONDS)
        if minute > self.denied.get(id_, -1):
            self.denied[id_] = minute
            self._buckets.setdefault(minute, []).append(id_)

    def _raise(self, principal: str, number: int, link: str) -> None:
        known, unproven = self.generations.get(principal), self._unproven.get(principal)
        if unproven is not None and number < unproven[0]:
            # Of another history, which may have revoked what was issued under the higher number.
            self.generations[principal] = (unproven[0], _TORN)
            return
        if unproven is not None:
            del self._unproven[principal]
        if known is None or number > known[0] or (number, link) == unproven:
            self.generations[principal] = (number, link)
        elif number == known[0] and link != known[1]:
            self.generations[principal] = (number, _TORN)

    def _take(self, key_set: KeySet) -> None:
        """A key of an algorithm that is newer than this client is left out: its tokens are not good here."""
        found: dict[str, VerifyingKey] = {}
        for published in key_set.keys:
            name = (published.algorithm, published.jwk)
            key = self._opened.get(name) or open_key(published.jwk, published.algorithm)
            if key is not None:
                self._opened[name] = found[published.key_id] = key
        self._opened = {name: key for name, key in self._opened.items() if key in found.values()}
        self.keys = found
