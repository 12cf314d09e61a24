"""Rotation: makes, brings forward, retires and forgets keys. The plan is `domain/keys.py`'s.

Everything it writes is a record or a generation, so that all processes learn it from the change log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import InvalidRequestError, NotFoundError, StaleEtagError
from identity_service.domain.ids import KeyId, key_principal, new_link
from identity_service.domain.keys import (
    CreateKey,
    DeleteKey,
    KeyPolicy,
    KeyPurpose,
    KeySchedule,
    PublishedKey,
    StoredKey,
)
from identity_service.domain.log import GenerationRaised, RecordKind, Revision
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import AuditTrail, Clock, KeyVault, ReplicaView
from identity_service.domain.store import Store, Versioned, all_records
from identity_service.services.unconfirmed import resent_until_confirmed

_ATTEMPTS: Final = 8
_LEASE: Final = timedelta(seconds=10)
_SHARED: Final = "HS256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A key was retired."""

    revision: Revision
    """The place in the log that says so."""
    successor: PublishedKey


class Rotation:
    """The use cases that change keys."""

    def __init__(
        self,
        store: Store,
        vault: KeyVault,
        replica: ReplicaView,
        clock: Clock,
        trail: AuditTrail,
        policy: KeyPolicy,
        algorithms: Sequence[str],
    ) -> None:
        """`algorithms` = of which signing keys may be made."""
        self._store = store
        self._vault = vault
        self._replica = replica
        self._clock = clock
        self._trail = trail
        self._policy = policy
        self._algorithms = algorithms

    def maintain(self) -> int:
        """Do what the plan says, unless another process does; returns how many steps were taken.

        Raises UnavailableError.
        """
        self._replica.require_fresh()
        if not self._plan(self._read()):
            return 0
        if not self._store.consume("keys/rotation", self._clock.now() + _LEASE):
            return 0
        return self._follow_plan()  # read again: another one may have been faster before the lease

    def rotate(self, purpose: KeyPurpose, algorithm: str = "", *, origin: Origin = NOWHERE) -> PublishedKey:
        """Bring the next key into use as soon as verifiers can know it.

        Raises InvalidRequestError, UnavailableError, StaleEtagError (others were faster too often).
        """
        self._replica.require_fresh()
        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._rotate(purpose, algorithm, origin)
            except (StaleEtagError, NotFoundError):
                if not left:
                    raise StaleEtagError("the keys change too often; try again") from None
        raise AssertionError("unreachable")

    def retire(self, key_id: KeyId, reason: str, *, origin: Origin = NOWHERE) -> Retired:
        """Refuse at once everything that was made with a key, and use the next one. Repeatable.

        Raises NotFoundError, UnavailableError.
        """
        self._replica.require_fresh()
        found = self._store.get(StoredKey, key_id)
        if found is None:
            raise NotFoundError("there is no such key; `identity key list` shows those there are")
        purpose = found.record.purpose
        event = AuditEvent.of(
            AuditType.KEY_RETIRED, origin, target=key_id, reason=reason, purpose=purpose.value
        )
        principal, link = key_principal(key_id), new_link()
        raised = GenerationRaised(principal=principal, number=1, origin=link)
        with resent_until_confirmed(self._replica, raised):
            appended = self._store.raise_generation(
                principal, above=0, request_id=f"retire/{key_id}", link=link, audit=event
            )
        self._replica.learn(appended)
        self._trail.stored(event)
        return Retired(revision=appended.revision, successor=self._succeed(purpose, origin))

    def _succeed(self, purpose: KeyPurpose, origin: Origin) -> PublishedKey:
        """Make sure that a key is in use by schedule, and another one waits."""
        for _ in range(_ATTEMPTS):
            keys, now = self._read(), self._clock.now()
            in_use = self._schedule(keys, purpose).in_use
            try:
                if in_use is not None and in_use.activate_time > now:
                    self._activate(keys[in_use.key_id], origin, now)
                self._follow_plan(origin)
            except (StaleEtagError, NotFoundError):
                continue
            if in_use is not None:
                break
        return self._described(purpose)

    def _rotate(self, purpose: KeyPurpose, algorithm: str, origin: Origin) -> PublishedKey:
        keys, now = self._read(), self._clock.now()
        schedule = self._schedule(keys, purpose)
        self._check_algorithm(schedule, algorithm)
        standby = schedule.waiting[0] if schedule.waiting else None
        wanted = algorithm or (standby or schedule.in_use or _none()).algorithm
        if standby is None or standby.algorithm != wanted:
            for other in schedule.spare(0, now):
                self._delete(keys[other.key_id], origin)
            due = now + self._policy.publish_before
            made = self._create(CreateKey(purpose=purpose, algorithm=wanted, activate_time=due), origin)
            return self._described(purpose, made.key_id)
        due = max(now, standby.create_time + self._policy.publish_before)
        if due < standby.activate_time:
            self._activate(keys[standby.key_id], origin, due)
        self._follow_plan(origin)
        return self._described(purpose, standby.key_id)

    def _check_algorithm(self, schedule: KeySchedule, algorithm: str) -> None:
        if not algorithm:
            return
        if schedule.purpose is not KeyPurpose.SIGN:
            raise InvalidRequestError.of("algorithm", "only keys that sign have a choice; leave it empty")
        if algorithm not in self._algorithms:
            raise InvalidRequestError.of("algorithm", f"must be one of {', '.join(self._algorithms)}")
        in_use = schedule.in_use
        if in_use is not None and (in_use.algorithm == _SHARED) != (algorithm == _SHARED):
            raise InvalidRequestError.of("algorithm", "HS256 is chosen when a store is initialised, or never")

    def _follow_plan(self, origin: Origin = NOWHERE) -> int:
        """Returns how many steps were taken. Raises StaleEtagError, NotFoundError: others were faster."""
        keys = self._read()
        steps = self._plan(keys)
        for step in steps:
            match step:
                case CreateKey():
                    self._create(step, origin)
                case DeleteKey(key=key):
                    self._delete(keys[key.key_id], origin)
        return len(steps)

    def _create(self, step: CreateKey, origin: Origin) -> StoredKey:
        made = self._vault.make(step.purpose, step.algorithm, self._clock.now())
        key = replace(made, activate_time=max(step.activate_time, made.create_time))
        event = _event(AuditType.KEY_CREATED, key, origin)
        self._replica.learn(self._store.create(key, audit=event))
        self._trail.stored(event)
        return key

    def _activate(self, found: Versioned[StoredKey], origin: Origin, due: datetime) -> None:
        """Bring a key into use before its time."""
        key = replace(found.record, activate_time=due)
        event = _event(AuditType.KEY_ACTIVATED, key, origin)
        self._replica.learn(self._store.update(key, expected=found.revision, audit=event))
        self._trail.stored(event)

    def _delete(self, found: Versioned[StoredKey], origin: Origin) -> None:
        event = _event(AuditType.KEY_DELETED, found.record, origin)
        deleted = self._store.delete(
            RecordKind.KEY, found.record.key_id, expected=found.revision, audit=event
        )
        self._replica.learn(deleted)
        self._trail.stored(event)

    def _plan(self, keys: dict[KeyId, Versioned[StoredKey]]) -> list[CreateKey | DeleteKey]:
        now, held = self._clock.now(), self._replica.held_time
        return [
            step
            for purpose in KeyPurpose
            for step in self._schedule(keys, purpose).plan(self._longest_policy(), now, held)
        ]

    def _longest_policy(self) -> KeyPolicy:
        marks = self._replica.marks
        return self._policy.covering(marks.lifetime + 2 * marks.leeway)

    def _described(self, purpose: KeyPurpose, key_id: KeyId | None = None) -> PublishedKey:
        """This key, or the one in use, as it is in the store now."""
        schedule = self._schedule(self._read(), purpose)
        wanted = key_id or (schedule.in_use or _none()).key_id
        for key in schedule.described(self._longest_policy()):
            if key.key_id == wanted:
                return key
        raise NotFoundError("the key was deleted meanwhile; try again")

    def _schedule(self, keys: dict[KeyId, Versioned[StoredKey]], purpose: KeyPurpose) -> KeySchedule:
        generations = self._replica.revocations.generations
        revoked = [key_id for key_id in keys if key_principal(key_id) in generations]
        return KeySchedule((found.record for found in keys.values()), revoked, purpose, self._clock.now())

    def _read(self) -> dict[KeyId, Versioned[StoredKey]]:
        return {found.record.key_id: found for found in all_records(self._store, StoredKey)}


def _none() -> StoredKey:
    raise NotFoundError("the store holds no such key; restore it from a backup")


def _event(type_: AuditType, key: StoredKey, origin: Origin) -> AuditEvent:
    return AuditEvent.of(
        type_,
        origin,
        target=key.key_id,
        purpose=key.purpose.value,
        algorithm=key.algorithm,
        activate_time=key.activate_time.isoformat(timespec="seconds"),
    )
