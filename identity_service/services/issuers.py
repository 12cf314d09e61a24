"""Trusted issuers as the hot path sees them: all of them in memory, read again when the log says so.

An `iss` that nobody trusts costs the store nothing. Reads no token and fetches no key.
"""

import threading
from collections.abc import Mapping

from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.domain.ports import IssuerKeys
from identity_service.domain.store import Store, all_records


class Issuers:
    """Finds trusted issuers, and tells those who hold their keys which there are."""

    def __init__(self, store: Store, keys: IssuerKeys, *, own: str) -> None:
        """`own` = this service's issuer name: a record of that name, of an older version, is not trusted."""
        self._own = own
        self._store = store
        self._keys = keys
        self._issuers: Mapping[str, TrustedIssuer] = {}
        self._reading = threading.Lock()

    def find(self, issuer: str) -> TrustedIssuer | None:
        """The issuer of this `iss`, compared as a whole, or None: its tokens prove nobody."""
        return self._issuers.get(issuer)

    def on_change(self, change: RecordChanged | None) -> None:
        """Read the issuers again when one of them, or everything, may have changed.

        Raises StoreUnavailableError: then the log is read again from before the change.
        """
        if change is not None and change.kind is not RecordKind.ISSUER:
            return
        with self._reading:  # so that what was read last is what stays
            records = (each.record for each in all_records(self._store, TrustedIssuer))
            found = {each.issuer: each for each in records if each.issuer != self._own}
            self._keys.follow(tuple(found.values()))
            self._issuers = found
