"""Key rotation: creates, activates, retires and deletes keys according to the schedule in `domain/keys.py`.

Everything it writes is a record or a generation, so that all processes learn of it from the change log.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import (
    IdentityError,
    InvalidRequestError,
    NotFoundError,
    StaleEtagError,
    StoreFencedError,
)
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
from identity_service.domain.ports import AuditTrail, Clock, EventLog, KeyVault, ReplicaView
from identity_service.domain.records import Versioned
from identity_service.domain.store import FactStore, RecordStore, SingleUse, all_records
from identity_service.domain.visible import shown
from identity_service.services.revoke import resent_until_confirmed

_ATTEMPTS: Final = 8
"""The number of attempts at a change while other processes change the keys at the same time."""
_LEASE: Final = timedelta(seconds=10)
"""The time for which one process alone may carry out the plan."""
_SYMMETRIC: Final = "HS256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """The result of retiring a key."""

    revision: Revision
    """The revision of the log that holds the retirement."""
    successor: PublishedKey
    """The key that is in use instead."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """The use cases that change keys: by schedule, and when an administrator rotates or retires one."""

    records: RecordStore
    facts: FactStore
    single_use: SingleUse
    vault: KeyVault
    replica: ReplicaView
    clock: Clock
    trail: AuditTrail
    policy: KeyPolicy
    algorithms: Sequence[str]
    """The algorithms for which signing keys may be made."""

    def maintain(self) -> int:
        """Create and delete the keys that are due, and return how many that were.

        If another process holds the lease, nothing is done. Raises UnavailableError, and StaleEtagError or
        NotFoundError if another process changed the keys at the same time.
        """
        self.replica.require_fresh()
        if not self._plan(self._read()):
            return 0
        if not self.single_use.consume("keys/rotation", self.clock.now() + _LEASE):
            return 0
        return self._follow_plan()  # it reads the keys again, which may have changed before the lease began

    def rotate(self, purpose: KeyPurpose, algorithm: str = "", *, origin: Origin = NOWHERE) -> PublishedKey:
        """Put the next key into use as soon as all verifiers have had time to fetch it, and return it.

        If the next key does not have the wanted `algorithm`, a new key replaces it; "" = any.

        Raises:
            InvalidRequestError: the algorithm is not possible.
            UnavailableError: this process's data is stale, or the store cannot be reached.
            StaleEtagError: other processes changed the keys at the same time in each of 8 attempts.
        """
        self.replica.require_fresh()
        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._rotate(purpose, algorithm, origin)
            except (StaleEtagError, NotFoundError):
                if not left:
                    raise StaleEtagError("the keys change too often; try again") from None
        raise AssertionError("unreachable")

    def retire(self, key_id: KeyId, reason: str, *, origin: Origin = NOWHERE) -> Retired:
        """Revoke everything that was made with a key, and put the next key into use. Idempotent.

        Raises NotFoundError, UnavailableError.
        """
        self.replica.require_fresh()
        found = self.records.get(StoredKey, key_id)
        if found is None:
            raise NotFoundError(f"{shown(key_id)}: there is no such key; `identity key list` lists the keys")
        purpose = found.record.purpose
        event = AuditEvent.of(
            AuditType.KEY_RETIRED, origin, target=key_id, reason=reason, purpose=purpose.value
        )
        principal, link = key_principal(key_id), new_link()
        raised = GenerationRaised(principal=principal, number=1, origin=link)
        with resent_until_confirmed(self.replica, raised):
            appended = self.facts.raise_generation(
                principal, above=0, request_id=f"retire/{key_id}", link=link, audit=event
            )
        self.replica.learn(appended)
        self.trail.stored(event)
        return Retired(revision=appended.revision, successor=self._succeed(purpose, origin))

    def _succeed(self, purpose: KeyPurpose, origin: Origin) -> PublishedKey:
        """Put the next key into use now, make sure that another one waits, and return the one in use."""
        for _ in range(_ATTEMPTS):
            keys, now = self._read(), self.clock.now()
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
        keys, now = self._read(), self.clock.now()
        schedule = self._schedule(keys, purpose)
        self._check_algorithm(schedule, algorithm)
        standby = schedule.waiting[0] if schedule.waiting else None
        wanted = algorithm or (standby or schedule.in_use or _no_key()).algorithm
        if standby is None or standby.algorithm != wanted:
            for other in schedule.spare(0, now):
                self._delete(keys[other.key_id], origin)
            due = now + self.policy.publish_before
            made = self._create(CreateKey(purpose=purpose, algorithm=wanted, activate_time=due), origin)
            return self._described(purpose, made.key_id)
        due = max(now, standby.create_time + self.policy.publish_before)
        if due < standby.activate_time:
            self._activate(keys[standby.key_id], origin, due)
        self._follow_plan(origin)
        return self._described(purpose, standby.key_id)

    def _check_algorithm(self, schedule: KeySchedule, algorithm: str) -> None:
        if not algorithm:
            return
        if schedule.purpose is not KeyPurpose.SIGN:
            raise InvalidRequestError.of("algorithm", "only keys that sign have a choice; leave it empty")
        if algorithm not in self.algorithms:
            raise InvalidRequestError.of("algorithm", f"must be one of {', '.join(self.algorithms)}")
        in_use = schedule.in_use
        if in_use is not None and (in_use.algorithm == _SYMMETRIC) != (algorithm == _SYMMETRIC):
            raise InvalidRequestError.of("algorithm", "HS256 is chosen when a store is initialised, or never")

    def _follow_plan(self, origin: Origin = NOWHERE) -> int:
        """Carry out the plan and return the number of its steps.

        Raises StaleEtagError or NotFoundError if another process changed the keys at the same time.
        """
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
        made = self.vault.make(step.purpose, step.algorithm, self.clock.now())
        key = replace(made, activate_time=max(step.activate_time, made.create_time))
        event = _event(AuditType.KEY_CREATED, key, origin)
        self.replica.learn(self.records.create(key, audit=event))
        self.trail.stored(event)
        return key

    def _activate(self, found: Versioned[StoredKey], origin: Origin, due: datetime) -> None:
        """Move the activation of a key to `due`."""
        key = replace(found.record, activate_time=due)
        event = _event(AuditType.KEY_ACTIVATED, key, origin)
        self.replica.learn(self.records.update(key, expected=found.revision, audit=event))
        self.trail.stored(event)

    def _delete(self, found: Versioned[StoredKey], origin: Origin) -> None:
        event = _event(AuditType.KEY_DELETED, found.record, origin)
        deleted = self.records.delete(
            RecordKind.KEY, found.record.key_id, expected=found.revision, audit=event
        )
        self.replica.learn(deleted)
        self.trail.stored(event)

    def _plan(self, keys: dict[KeyId, Versioned[StoredKey]]) -> list[CreateKey | DeleteKey]:
        now, held = self.clock.now(), self.replica.held_time
        return [
            step
            for purpose in KeyPurpose
            for step in self._schedule(keys, purpose).plan(self._longest_policy(), now, held)
        ]

    def _longest_policy(self) -> KeyPolicy:
        marks = self.replica.marks
        return self.policy.covering(marks.lifetime + 2 * marks.leeway)

    def _described(self, purpose: KeyPurpose, key_id: KeyId | None = None) -> PublishedKey:
        """Return this key (None = the key in use) as the store has it now. Raises NotFoundError."""
        schedule = self._schedule(self._read(), purpose)
        wanted = key_id or (schedule.in_use or _no_key()).key_id
        for key in schedule.described(self._longest_policy()):
            if key.key_id == wanted:
                return key
        raise NotFoundError("the key was deleted meanwhile; try again")

    def _schedule(self, keys: dict[KeyId, Versioned[StoredKey]], purpose: KeyPurpose) -> KeySchedule:
        generations = self.replica.revocations.generations
        revoked = [key_id for key_id in keys if key_principal(key_id) in generations]
        return KeySchedule((found.record for found in keys.values()), revoked, purpose, self.clock.now())

    def _read(self) -> dict[KeyId, Versioned[StoredKey]]:
        return {found.record.key_id: found for found in all_records(self.records, StoredKey)}


def keep_keys(
    maintain: Callable[[], int], event_log: EventLog, interval: timedelta, stopping: threading.Event
) -> None:
    """Call `maintain` now and at each interval, until `stopping` is set.

    Every process does so, and a lease picks the one that acts. The first of several consecutive failures is
    logged.
    """
    failing = False
    while not stopping.is_set():
        why = ""
        try:
            maintain()
        except StoreFencedError:
            pass  # the heartbeat thread logs this once
        except IdentityError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001  # if it ended the loop, the last key would sign for ever
            why = type(error).__name__
        if why and not failing and not stopping.is_set():
            event_log.record("keys_not_maintained", error=why)
        failing = bool(why)
        stopping.wait(interval.total_seconds())


def _no_key() -> StoredKey:
    raise NotFoundError("the store holds no key for this purpose; restore a backup")


def _event(type_: AuditType, key: StoredKey, origin: Origin) -> AuditEvent:
    return AuditEvent.of(
        type_,
        origin,
        target=key.key_id,
        purpose=key.purpose.value,
        algorithm=key.algorithm,
        activate_time=key.activate_time.isoformat(timespec="seconds"),
    )
