"""The trusted issuers in memory, read again when the change log says that one has changed.

A token whose `iss` is not trusted is refused without a read of the store. The module fetches no key.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from identity_service.domain.assertions import Assertion, UnverifiedAssertion
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.issuers import IssuerKeys, IssuerNames, TrustedIssuer
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.domain.ports import EventLog
from identity_service.domain.store import RecordStore, all_records
from identity_service.domain.visible import shown


class IssuerDirectory:
    """The trusted issuers of a store, in memory; verifies their JWTs, and keeps `IssuerKeys` informed."""

    def __init__(
        self, records: RecordStore, keys: IssuerKeys, event_log: EventLog, *, own: IssuerNames
    ) -> None:
        """Serve the issuers of this store; none are known until `on_records_changed` is called.

        `own` are this service's issuer names: a stored issuer with a spelling of one is not trusted. There is
        such an issuer if an older version accepted it, or if the setting `issuer` was changed later.
        """
        self._own = own
        self._event_log = event_log
        self._warned: set[str] = set()
        self._records = records
        self._keys = keys
        self._issuers: Mapping[str, TrustedIssuer] = {}
        self._reading = threading.Lock()

    def __len__(self) -> int:
        return len(self._issuers)

    def find(self, issuer: str) -> TrustedIssuer | None:
        """Return the issuer with exactly this `iss`, or None if it is not trusted."""
        return self._issuers.get(issuer)

    def prove(self, unverified: UnverifiedAssertion) -> tuple[TrustedIssuer, Assertion]:
        """Return the issuer of a JWT and its claims, which a key of that issuer has signed.

        Raises CredentialRefusedError, and IssuerUnreachableError if the keys of the issuer cannot be fetched.
        """
        issuer = self.find(unverified.assertion.issuer)
        if issuer is None:
            raise CredentialRefusedError("the token's issuer is not trusted")
        if not unverified.key_id:
            raise CredentialRefusedError("the token's header has no kid")
        if unverified.algorithm not in issuer.algorithms:
            raise CredentialRefusedError("the token's alg is not accepted from its issuer")
        key = self._keys.find(issuer, unverified.key_id)
        if key is None:
            raise CredentialRefusedError(
                "the token names a key that its issuer does not have", details={"kid": unverified.key_id}
            )
        return issuer, unverified.prove(key)

    def on_records_changed(self, changes: Sequence[RecordChanged] | None) -> None:
        """Read the issuers again if one of them may have changed (None = anything may have).

        Raises StoreUnavailableError; the log is then read again from before the changes.
        """
        if changes is not None and all(change.kind is not RecordKind.ISSUER for change in changes):
            return
        with self._reading:  # one read at a time, so that an older one cannot replace a newer one
            records = [each.record for each in all_records(self._records, TrustedIssuer)]
            own = {each.issuer: name for each in records if (name := self._own.spelled(each.issuer))}
            found = {each.issuer: each for each in records if each.issuer not in own}
            self._keys.follow(tuple(found.values()))
            self._issuers = found
            for name in sorted(own.keys() - self._warned):
                self._event_log.record("issuer_has_own_name", issuer=name, own=own[name])
            self._warned = set(own)


@contextmanager
def naming_issuer(unverified: UnverifiedAssertion) -> Iterator[None]:
    """Add the issuer of a JWT to a CredentialRefusedError, for the audit trail."""
    try:
        yield
    except CredentialRefusedError as error:
        error.details["issuer"] = shown(unverified.assertion.issuer)
        raise
