"""Setup: writes the epoch, the keys, the built-in client and the first administrator into an empty store.

The signing key is written last: a store without one was not set up completely, or has lost its keys, and may
be set up again.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import AlreadyExistsError, NotFoundError
from identity_service.domain.grants import SCOPE_ADMIN, SCOPE_REVOKE, SCOPE_VERIFY
from identity_service.domain.ids import PrincipalId, new_epoch
from identity_service.domain.keys import FIXED_ALGORITHMS, KeyPolicy, KeyPurpose, StoredKey, key_in_use
from identity_service.domain.ports import Clock, KeyVault
from identity_service.domain.principals import Client, first_party_client
from identity_service.domain.secret import Secret
from identity_service.domain.store import RecordStore, Store, all_records
from identity_service.services.admin.administration import Administration

_ADMIN: Final = PrincipalId("admin")
"""The client id of the first administrator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised:
    """The first administrator; the secret is returned only here."""

    client_id: PrincipalId
    client_secret: Secret


def initialise(
    store: Store,
    vault: KeyVault,
    administrator: Administration,
    clock: Clock,
    *,
    algorithm: str,
    service_audience: str,
    policy: KeyPolicy,
) -> Initialised:
    """Initialise an empty store, or one whose initialisation was interrupted.

    The keys are made before the store is touched, so that a wrong setting leaves it empty.

    Args:
        store: the store to initialise.
        vault: makes the keys.
        administrator: creates the first administrator.
        clock: the wall clock.
        algorithm: the algorithm of the signing keys.
        service_audience: the audience of calls to this service, which the administrator may ask for.
        policy: the times that govern the rotation of the keys.

    Raises:
        AlreadyExistsError: the store has been initialised before; nothing was changed.
        ConfigurationError: the algorithm is not known.
        StoreUnavailableError: the store cannot be reached; the call can be repeated.
    """
    now, algorithms = clock.now(), {KeyPurpose.SIGN: algorithm, **FIXED_ALGORITHMS}
    keys = {purpose: vault.make(purpose, name, now) for purpose, name in algorithms.items()}
    signing_key = keys.pop(KeyPurpose.SIGN)
    later = now + policy.rotate_every
    standbys = [
        replace(vault.make(kind, name, now), activate_time=later) for kind, name in algorithms.items()
    ]
    try:
        store.initialise(new_epoch())
    except AlreadyExistsError as error:
        if _has_signing_key(store.records, now):
            raise AlreadyExistsError("the store is initialised already; nothing was changed") from error
    for key in keys.values():
        store.records.create(key, audit=_created(key))
    with suppress(AlreadyExistsError):
        store.records.create(first_party_client())
    with suppress(NotFoundError):
        administrator.clients.delete(_ADMIN)  # from an interrupted run, which has not returned its secret
    made, secret = administrator.clients.create(
        Client(
            client_id=_ADMIN,
            display_name="First administrator",
            audiences=frozenset({service_audience}),
            scopes=frozenset({SCOPE_ADMIN, SCOPE_REVOKE, SCOPE_VERIFY}),
        )
    )
    assert secret is not None  # noqa: S101  # only public clients have none
    for standby in standbys:
        store.records.create(standby, audit=_created(standby))
    store.records.create(signing_key, audit=_created(signing_key))
    return Initialised(client_id=made.record.client_id, client_secret=secret)


def _created(key: StoredKey) -> AuditEvent:
    return AuditEvent.of(
        AuditType.KEY_CREATED, target=key.key_id, purpose=key.purpose.value, algorithm=key.algorithm
    )


def _has_signing_key(records: RecordStore, now: datetime) -> bool:
    keys = (found.record for found in all_records(records, StoredKey))
    # A standby key alone is of an interrupted run: nothing was ever signed with it.
    return key_in_use(keys, KeyPurpose.SIGN, now) is not None
