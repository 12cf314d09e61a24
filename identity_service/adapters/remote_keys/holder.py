"""Holds the keys of all trusted issuers, each from its own source. Implements the port IssuerKeys."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from identity_service.adapters.remote_keys.local import FileKeys, InlineKeys
from identity_service.adapters.remote_keys.remote import Fetch, RefreshPolicy, RemoteKeys, Waiting
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.ports import Clock, EventLog, VerifyingKey
from identity_service.jose.jwks import MAX_SET_BYTES, KeySet, read_key_set


class IssuerKeySet(Protocol):
    """Where the keys of one issuer come from."""

    def find(self, key_id: str) -> VerifyingKey | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """All of a record that its keys depend on: another rule for its tokens fetches nothing anew."""

    issuer: str
    uri: str | None
    file: str | None
    inline: str | None
    algorithms: tuple[str, ...]

    @classmethod
    def of(cls, issuer: TrustedIssuer) -> "_Source":
        return cls(
            issuer=issuer.issuer,
            uri=issuer.jwks_uri,
            file=issuer.jwks_file,
            inline=issuer.jwks,
            algorithms=issuer.algorithms,
        )


class HeldIssuerKeys:
    """The keys of those issuers that are trusted now."""

    def __init__(
        self,
        fetch: Fetch,
        clock: Clock,
        event_log: EventLog,
        *,
        waiting: int,
        policy: RefreshPolicy | None = None,
    ) -> None:
        """`waiting` = how many callers may wait for all issuers together; for one of them half as many."""
        self._fetch = fetch
        self._clock = clock
        self._event_log = event_log
        self._policy = policy or RefreshPolicy()
        self._waiting = threading.BoundedSemaphore(waiting)
        self._waiting_for_one = max(1, waiting // 2)
        self._sources: Mapping[_Source, IssuerKeySet] = {}

    def follow(self, issuers: Sequence[TrustedIssuer]) -> None:
        known = self._sources
        self._sources = {
            source: known.get(source) or self._open(source) for source in map(_Source.of, issuers)
        }
        for source in known.keys() - self._sources.keys():
            known[source].close()

    def find(self, issuer: TrustedIssuer, key_id: str) -> VerifyingKey | None:
        keys = self._sources.get(_Source.of(issuer))
        if keys is None:  # the record has just changed
            raise IssuerUnreachableError
        return keys.find(key_id)

    def close(self) -> None:
        """Fetch no more."""
        for keys in self._sources.values():
            keys.close()

    def _open(self, source: _Source) -> IssuerKeySet:
        read: Callable[[bytes], KeySet] = partial(read_key_set, algorithms=source.algorithms)
        if source.uri is not None:
            return RemoteKeys(
                source.issuer,
                source.uri,
                fetch=self._fetch,
                read=read,
                clock=self._clock,
                event_log=self._event_log,
                policy=self._policy,
                waiting=Waiting.of(self._waiting, self._waiting_for_one),
            )
        if source.file is not None:
            return FileKeys(
                source.issuer,
                Path(source.file),
                max_bytes=MAX_SET_BYTES,
                read=read,
                clock=self._clock,
                event_log=self._event_log,
            )
        return InlineKeys(source.issuer, source.inline or "", read, self._event_log)
