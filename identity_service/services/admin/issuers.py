"""Administration of trusted issuers. The table of methods decides which callers may use it."""

from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.issuers import IssuerNames, TrustedIssuer
from identity_service.domain.log import RecordKind, Revision
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import Clock, PublicKeyChecker
from identity_service.domain.records import Versioned
from identity_service.services.admin.issuer_checks import check_issuer
from identity_service.services.admin.records import Changed, Records, differing, names

KEY_SOURCES: Final = ("jwks_uri", "jwks_file", "jwks")
"""The fields that say where an issuer's keys come from; exactly one of them is set."""
ISSUER_FIELDS: Final = (*KEY_SOURCES, "audiences", "algorithms", "rules", "single_use", "max_age")
"""The fields that `TrustedIssuers.update` can change."""


@dataclass(frozen=True, slots=True)
class TrustedIssuers:
    """The use cases that create, find, change and delete trusted issuers."""

    records: Records
    keys: PublicKeyChecker
    clock: Clock
    _: KW_ONLY
    own: IssuerNames
    """This service's issuer names; an issuer whose name is a spelling of one of them is refused."""

    def create(self, issuer: TrustedIssuer, *, origin: Origin = NOWHERE) -> Versioned[TrustedIssuer]:
        """Trust an issuer from now on. Raises InvalidRequestError, AlreadyExistsError."""
        check_issuer(issuer, self.keys, own=self.own)
        event = AuditEvent.of(AuditType.ISSUER_TRUSTED, origin, target=issuer.issuer)
        return self.records.create(replace(issuer, create_time=self.clock.now()), event)

    def get(self, issuer: str) -> Versioned[TrustedIssuer]:
        """Return the issuer of this name. Raises NotFoundError."""
        return self.records.get(TrustedIssuer, issuer)

    def list(self, *, after: str = "", limit: int = 100) -> Sequence[Versioned[TrustedIssuer]]:
        """Return up to `limit` issuers in the order of their `iss`, beginning after the name `after`."""
        return self.records.list_of(TrustedIssuer, after=after, limit=limit)

    def update(
        self,
        wanted: TrustedIssuer,
        fields: Collection[str],
        *,
        expected: Revision | None = None,
        origin: Origin = NOWHERE,
    ) -> Versioned[TrustedIssuer]:
        """Copy the values of `fields`, a subset of ISSUER_FIELDS, from `wanted` to the issuer of its name.

        Setting one of KEY_SOURCES unsets the others.

        Raises InvalidRequestError, NotFoundError, StaleEtagError.
        """
        values = {name: getattr(wanted, name) for name in fields}
        if any(values.get(source) is not None for source in KEY_SOURCES):
            values |= {source: values.get(source) for source in KEY_SOURCES}

        def decide(issuer: TrustedIssuer) -> Changed[TrustedIssuer]:
            changed = replace(issuer, **values)
            check_issuer(changed, self.keys, own=self.own, stored=True)
            event = AuditEvent.of(
                AuditType.ISSUER_UPDATED,
                origin,
                target=issuer.issuer,
                fields=names(differing(issuer, changed, values)),
            )
            return Changed(record=changed, event=event)

        return self.records.change(TrustedIssuer, wanted.issuer, decide, expected=expected)

    def delete(self, issuer: str, *, expected: Revision | None = None, origin: Origin = NOWHERE) -> Revision:
        """Stop trusting an issuer; tokens that were issued in return for its tokens stay valid.

        Raises NotFoundError, StaleEtagError.
        """
        event = AuditEvent.of(AuditType.ISSUER_DISTRUSTED, origin, target=issuer)
        return self.records.delete(RecordKind.ISSUER, issuer, event, expected=expected)
