"""Administration of trusted issuers. The policy table decides which callers may do it."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.log import RecordKind, Revision
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import Clock, PublicKeyChecker
from identity_service.domain.store import Store, Versioned
from identity_service.services.admin.issuer_checks import check_issuer
from identity_service.services.admin.records import Changed, Records, differing, names

KEY_SOURCES: Final = ("jwks_uri", "jwks_file", "jwks")
"""Of which an issuer has exactly one."""
ISSUER_FIELDS: Final = (*KEY_SOURCES, "audiences", "algorithms", "rules", "single_use", "max_age")
"""What an administrator may change."""


class TrustedIssuers:
    """Trusts, finds, changes and deletes issuers."""

    def __init__(
        self, store: Store, records: Records, keys: PublicKeyChecker, clock: Clock, *, own: str
    ) -> None:
        """`own` is this service's issuer name, of which no other issuer may have a spelling."""
        self._own = own
        self._store = store
        self._records = records
        self._keys = keys
        self._clock = clock

    def create(self, issuer: TrustedIssuer, *, origin: Origin = NOWHERE) -> Versioned[TrustedIssuer]:
        """Trust an issuer. Raises InvalidRequestError, AlreadyExistsError."""
        check_issuer(issuer, self._keys, own=self._own)
        event = AuditEvent.of(AuditType.ISSUER_TRUSTED, origin, target=issuer.issuer)
        return self._records.create(replace(issuer, create_time=self._clock.now()), event)

    def get(self, issuer: str) -> Versioned[TrustedIssuer]:
        """Return the issuer of this name. Raises NotFoundError."""
        return self._records.get(TrustedIssuer, issuer)

    def list(self, *, after: str = "", limit: int = 100) -> Sequence[Versioned[TrustedIssuer]]:
        """Return issuers by `iss`, those after `after`."""
        return self._store.list_records(TrustedIssuer, after=after, limit=limit)

    def update(
        self,
        wanted: TrustedIssuer,
        fields: Collection[str],
        *,
        expected: Revision | None = None,
        origin: Origin = NOWHERE,
    ) -> Versioned[TrustedIssuer]:
        """Give the issuer of this name the values that `wanted` has in `fields`, a part of ISSUER_FIELDS.

        Setting one source of keys unsets the others.

        Raises InvalidRequestError, NotFoundError, StaleEtagError.
        """
        values = {name: getattr(wanted, name) for name in fields}
        if any(values.get(source) is not None for source in KEY_SOURCES):
            values |= {source: values.get(source) for source in KEY_SOURCES}

        def decide(issuer: TrustedIssuer) -> Changed[TrustedIssuer]:
            changed = replace(issuer, **values)
            check_issuer(changed, self._keys, own=self._own, stored=True)
            event = AuditEvent.of(
                AuditType.ISSUER_UPDATED,
                origin,
                target=issuer.issuer,
                fields=names(differing(issuer, changed, values)),
            )
            return Changed(record=changed, event=event)

        return self._records.change(TrustedIssuer, wanted.issuer, decide, expected=expected)

    def delete(self, issuer: str, *, expected: Revision | None = None, origin: Origin = NOWHERE) -> Revision:
        """Trust the issuer no more; what was issued for its tokens lives on.

        Raises NotFoundError, StaleEtagError.
        """
        event = AuditEvent.of(AuditType.ISSUER_DISTRUSTED, origin, target=issuer)
        return self._records.delete(RecordKind.ISSUER, issuer, event, expected=expected)
