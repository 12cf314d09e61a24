"""The state that a watch has sent: the published keys and all revocations in effect.

The module parses no tokens. Facts only grow: a denial may be extended, never shortened, a generation raised,
never lowered. One thread applies events; other threads read without a lock, since every change is one
assignment.
"""

import math
from collections.abc import Mapping

from identity_client.access_tokens import KEY, SignedToken
from identity_client.trust import GenerationRaised, KeySet, SessionEnded, TokenDenied, WatchEvent
from identity_client.verifying_keys import VerifyingKey, open_key

_BUCKET_SECONDS = 60
"""The unit to which the ends of denials are rounded up."""
_RAISED = "all tokens of one of the token's principals were revoked"
RETIRED = "a key that the token was made with was retired"
LOST = "the token was issued in a history of the store that was lost"
_CONFLICTING = "\0"
"""The link of a generation that two histories raised differently: no token has this link, so every token with
this generation or a lower one is revoked."""


class TrustState:
    """The keys, denials and generations that one watch has sent."""

    def __init__(self) -> None:
        self.keys: Mapping[str, VerifyingKey] = {}
        self.denied: dict[str, int] = {}
        """A map from token and session ids to the minute (since 1970) at which the denial ends."""
        self.generations: dict[str, tuple[int, str]] = {}
        """A map from principals to the number and link of their generation."""
        self.revision = ""
        """The revision up to which everything has arrived; "" = begin with a snapshot."""
        self.complete = False
        """True if all revocations in effect have arrived: False until a first or new snapshot is complete."""
        self._unproven: dict[str, tuple[int, str]] = {}
        """The generations from before the last snapshot that did not come again since it began."""
        self._opened: dict[tuple[str, str], VerifyingKey] = {}
        self._buckets: dict[int, list[str]] = {}

    def fold(self, event: WatchEvent) -> None:
        """Apply one message. Raises ValueError if a key in it is not well-formed."""
        if event.restarted:
            self._unproven = self.generations | self._unproven
        for revocation in event.revocations:
            match revocation:
                case TokenDenied(token_id=id_, deny_until=until):
                    self._deny(id_, until.timestamp())
                case SessionEnded(session_id=id_, deny_until=until):
                    self._deny(id_, until.timestamp())
                case GenerationRaised(principal=principal, number=number, link=link):
                    self._raise(principal, number, link)
        if event.keys is not None:
            self._replace_keys(event.keys)
        if event.restarted:
            self.start_over()  # if the stream ends before the next revision, do not resume at an older one
        if event.revision:
            self.revision = event.revision
            self.complete = True

    def start_over(self) -> None:
        """Ask for a snapshot: the state is kept, but is incomplete until the snapshot has arrived."""
        self.revision = ""
        self.complete = False

    def evict(self, before: float) -> None:
        """Forget the denials that ended before this time (Unix seconds)."""
        current = math.floor(before / _BUCKET_SECONDS)
        for minute in [minute for minute in self._buckets if minute < current]:
            for id_ in self._buckets.pop(minute):
                if self.denied.get(id_) == minute:  # unless the denial was extended
                    del self.denied[id_]

    def why_revoked(self, token: SignedToken) -> str | None:
        """Return a sentence that names the revocation of the token, or None if it is not revoked."""
        claims = token.claims
        if claims.token_id in self.denied:
            return "the token was revoked"
        if claims.session_id in self.denied:
            return "the token's session has ended"
        # Look the token's few principals up: generations are never forgotten and may be many.
        if self.generations and not self.generations.keys().isdisjoint(token.principals):
            for principal in token.principals:
                if self._is_raised_over(principal, token.generations.get(principal)):
                    return RETIRED if principal.startswith(KEY) else _RAISED
        return None

    def is_ahead(self, token: SignedToken) -> bool:
        """Return whether the token names a higher generation than any that arrived.

        Such a token is newer than the state, or it was issued in a history of the store that was lost.
        """
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
            # The lower number is of another history, which may have revoked tokens with the higher number.
            self.generations[principal] = (unproven[0], _CONFLICTING)
            return
        if unproven is not None:
            del self._unproven[principal]
        if known is None or number > known[0] or (number, link) == unproven:
            self.generations[principal] = (number, link)
        elif number == known[0] and link != known[1]:
            self.generations[principal] = (number, _CONFLICTING)

    def _replace_keys(self, key_set: KeySet) -> None:
        """Replace the keys, without those of unknown algorithms, whose tokens are rejected."""
        found: dict[str, VerifyingKey] = {}
        for published in key_set.keys:
            name = (published.algorithm, published.jwk)
            key = self._opened.get(name) or open_key(published.jwk, published.algorithm)
            if key is not None:
                self._opened[name] = found[published.key_id] = key
        self._opened = {name: key for name, key in self._opened.items() if key in found.values()}
        self.keys = found
