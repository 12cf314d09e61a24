"""Implements the port IssuerKeys: holds the keys of all trusted issuers, each from its own source."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from identity_service.adapters.remote_keys.documents import Fetch
from identity_service.adapters.remote_keys.local import FileKeys, InlineKeys
from identity_service.adapters.remote_keys.remote import RefreshPolicy, RemoteKeys, Waiting
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.ports import Clock, EventLog, VerifyingKey
from identity_service.jose.jwks import KeySet, read_key_set

IssuerKeySet = RemoteKeys | FileKeys | InlineKeys
"""The keys of one issuer, from one source."""


def _source_of(issuer: TrustedIssuer) -> TrustedIssuer:
    """Return a record with only the fields that its keys depend on: other changes do not fetch them again."""
    return TrustedIssuer(
        issuer=issuer.issuer,
        jwks_uri=issuer.jwks_uri,
        jwks_file=issuer.jwks_file,
        jwks=issuer.jwks,
        algorithms=issuer.algorithms,
    )


class HeldIssuerKeys:
    """The keys of all issuers that are trusted now."""

    def __init__(
        self,
        fetch: Fetch,
        clock: Clock,
        event_log: EventLog,
        *,
        waiting: int,
        policy: RefreshPolicy | None = None,
    ) -> None:
        """Hold the keys of no issuer yet; `follow` sets the issuers.

        Args:
            fetch: fetches the document at a URL.
            clock: measures the ages of keys.
            event_log: receives the events about the keys of each issuer.
            waiting: how many callers may wait for requests to all issuers together. At most half of them, and
                at least one, may wait for the same issuer.
            policy: how often issuers are asked; None = the defaults.
        """
        self._fetch = fetch
        self._clock = clock
        self._event_log = event_log
        self._policy = policy or RefreshPolicy()
        self._waiting = threading.BoundedSemaphore(waiting)
        self._waiting_for_one = max(1, waiting // 2)
        self._sources: Mapping[TrustedIssuer, IssuerKeySet] = {}

    def follow(self, issuers: Sequence[TrustedIssuer]) -> None:
        """Hold the keys of exactly these issuers. Returns at once; keys of new sources are fetched soon."""
        known = self._sources
        self._sources = {
            source: known.get(source) or self._open(source) for source in map(_source_of, issuers)
        }
        for source in known.keys() - self._sources.keys():
            known[source].close()

    def find(self, issuer: TrustedIssuer, key_id: str) -> VerifyingKey | None:
        """Return the issuer's key with this id, or None. Raises IssuerUnreachableError."""
        keys = self._sources.get(_source_of(issuer))
        if keys is None:  # the record has just changed, and `follow` is still to come
            raise IssuerUnreachableError
        return keys.find(key_id)

    def close(self) -> None:
        """Stop fetching keys."""
        for keys in self._sources.values():
            keys.close()

    def _open(self, source: TrustedIssuer) -> IssuerKeySet:
        read: Callable[[bytes], KeySet] = partial(read_key_set, algorithms=source.algorithms)
        if source.jwks_uri is not None:
            return RemoteKeys(
                source.issuer,
                source.jwks_uri,
                fetch=self._fetch,
                read=read,
                clock=self._clock,
                event_log=self._event_log,
                policy=self._policy,
                waiting=Waiting(total=self._waiting, own=threading.BoundedSemaphore(self._waiting_for_one)),
            )
        if source.jwks_file is not None:
            path = Path(source.jwks_file)
            return FileKeys(source.issuer, path, read=read, clock=self._clock, event_log=self._event_log)
        return InlineKeys(source.issuer, source.jwks or "", read, self._event_log)
