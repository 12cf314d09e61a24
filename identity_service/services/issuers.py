"""Trusted issuers as the hot path sees them: all of them in memory, read again when the log says so.

A token whose `iss` is not trusted costs the store nothing. Reads no token and fetches no key.
"""

import threading
from collections.abc import Mapping

from identity_service.domain.issuer_names import is_same_issuer
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.domain.ports import EventLog, IssuerKeys
from identity_service.domain.store import Store, all_records


class Issuers:
    """The trusted issuers of a store in memory; passes them on to the holder of their keys."""

    def __init__(self, store: Store, keys: IssuerKeys, event_log: EventLog, *, own: str) -> None:
        """`own` is this service's issuer name: a record with a spelling of it is not trusted.

        An older version accepted such a record, or the setting `issuer` has changed since it was made.
        """
        self._own = own
        self._event_log = event_log
        self._warned: set[str] = set()
        self._store = store
        self._keys = keys
        self._issuers: Mapping[str, TrustedIssuer] = {}
        self._reading = threading.Lock()

    def find(self, issuer: str) -> TrustedIssuer | None:
        """Return the issuer of this `iss`, compared exactly, or None: its tokens are refused."""
        return self._issuers.get(issuer)

    def on_change(self, change: RecordChanged | None) -> None:
        """Read the issuers again when one of them, or everything, may have changed.

        Raises StoreUnavailableError: then the log is read again from before the change.
        """
        if change is not None and change.kind is not RecordKind.ISSUER:
            return
        with self._reading:  # so that what was read last is what stays
            records = [each.record for each in all_records(self._store, TrustedIssuer)]
            own = {each.issuer for each in records if is_same_issuer(each.issuer, self._own)}
            found = {each.issuer: each for each in records if each.issuer not in own}
            self._keys.follow(tuple(found.values()))
            self._issuers = found
            for name in sorted(own - self._warned):
                self._event_log.record("issuer_has_own_name", issuer=name, own=self._own)
            self._warned = own
