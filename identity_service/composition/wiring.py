"""Wires the use cases: passes each of them the parts that it needs. The module opens and starts nothing.

keys, directory ← store                      (kept in memory, read again after changes)
issuer, refresher, revoker, verifier, …      (one object for each use case)
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from identity_service.adapters.attempt_counter import MemoryAttempts
from identity_service.adapters.common_passwords import is_common
from identity_service.composition.waiting import waiting_calls
from identity_service.domain.attempts import AttemptPolicies, AttemptPolicy
from identity_service.domain.grants import LifetimeBounds
from identity_service.domain.issuers import IssuerKeys, IssuerNames
from identity_service.domain.keys import KeyPolicy
from identity_service.domain.ports import AuditTrail, Clock, EventLog, KeyVault, PasswordHasher, ReplicaView
from identity_service.domain.store import RecordStore, Store
from identity_service.grpc_api.claims import render
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.assertions import StrictAssertions
from identity_service.jose.dpop import StrictDpopProofs
from identity_service.jose.encryption_keys import read_encryption_key
from identity_service.jose.keys import ALGORITHMS
from identity_service.jose.public_keys import StrictKeyChecker
from identity_service.replication.replica import Replica
from identity_service.services.admin.administration import Administration
from identity_service.services.admin.clients import Clients
from identity_service.services.admin.issuers import TrustedIssuers
from identity_service.services.admin.records import Records
from identity_service.services.admin.sessions import Sessions
from identity_service.services.admin.users import Users
from identity_service.services.attempts import AttemptGuard, WaitPolicy
from identity_service.services.audit import LoggedTrail, StoredTrail
from identity_service.services.authenticate import Authenticator
from identity_service.services.client_proofs import ClientProofs
from identity_service.services.directory import Directory
from identity_service.services.dpop import DpopProofs
from identity_service.services.exchange import Exchanger
from identity_service.services.id_jags import IdJags
from identity_service.services.introspect import Introspector
from identity_service.services.issue import TokenIssuer
from identity_service.services.issuers import IssuerDirectory
from identity_service.services.keyring import KeyRing
from identity_service.services.refresh import Refresher
from identity_service.services.repeated_issue import RepeatedIssue
from identity_service.services.revoke import Revoker
from identity_service.services.revoke_token import TokenRevoker
from identity_service.services.rewrap import Rewrap
from identity_service.services.rotation import Rotation
from identity_service.services.token_maker import IssueConfig, Recipients, TokenMaker
from identity_service.services.verify import Verifier
from identity_service.settings import Settings
from identity_service.telemetry.logs import StructuredEventLog

_ENCRYPTION_KEYS: Final = 1000
"""The number of public keys of clients that are kept opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The store, replica, keys and other parts that the use cases are built on."""

    settings: Settings
    clock: Clock
    store: Store
    replica: Replica
    vault: KeyVault
    hasher: PasswordHasher
    event_log: EventLog
    key_policy: KeyPolicy
    issuer_keys: IssuerKeys


class UseCases:
    """The use cases of a server process, one object each."""

    def __init__(self, parts: Parts) -> None:
        settings, clock, store, replica = parts.settings, parts.clock, parts.store, parts.replica
        self.keys = KeyRing(store.records, parts.vault, clock, replica.revocations, parts.key_policy)
        self.directory = Directory(store.records)
        replica.subscribe(self.keys.on_records_changed)
        replica.subscribe(self.directory.on_records_changed)
        self.issuers = issuers = IssuerDirectory(
            store.records, parts.issuer_keys, parts.event_log, own=settings.issuer_names
        )
        replica.subscribe(issuers.on_records_changed)
        self.trail = StoredTrail(
            store.audit,
            parts.event_log,
            clock,
            queue=settings.audit_queue,
            burst=settings.audit_burst,
            store_traffic=settings.audit_traffic == "store",
        )

        codec = AccessTokenCodec(self.keys, settings.issuer_names)
        config = _issue_config(settings)
        reader = StrictAssertions()
        proofs = ClientProofs(
            store.single_use,
            replica,
            self.directory,
            issuers,
            reader,
            clock,
            audiences=settings.issuer_names.all,
            leeway=settings.leeway,
        )
        self.guard = AttemptGuard(
            store.attempts,
            MemoryAttempts(clock.boot),
            _attempt_policies(settings),
            clock.monotonic,
            WaitPolicy(places=waiting_calls(settings).for_sign_ins),
        )
        self.authenticator = authenticator = Authenticator(
            store.sessions,
            store.records,
            replica,
            self.directory,
            parts.hasher,
            clock,
            proofs,
            guard=self.guard,
            audit=self.trail,
        )
        self.proofs = DpopProofs(
            StrictDpopProofs(),
            store.single_use,
            self.keys,
            clock,
            leeway=settings.leeway,
            require_nonce=settings.dpop_require_nonce,
        )
        recipients = Recipients(self.keys, self.directory, lru_cache(_ENCRYPTION_KEYS)(read_encryption_key))
        maker = TokenMaker(codec, self.keys, clock, config)
        self.verifier = Verifier(
            codec,
            self.keys,
            replica,
            clock,
            render,
            leeway=settings.leeway,
            cache_bytes=settings.cache_bytes // 4 * 3,
            serve_stale=settings.on_stale == "serve",
        )
        self.revoker = Revoker(
            store.facts, store.log, replica, codec, self.keys, clock, self.trail, settings.marks
        )
        self.token_revoker = TokenRevoker(self.revoker, store.sessions, self.directory)
        self.introspector = Introspector(
            self.verifier, store.sessions, replica, self.keys, grace=settings.refresh_grace
        )
        self.refresher = Refresher(
            store.sessions,
            replica,
            authenticator,
            self.directory,
            self.keys,
            maker,
            recipients,
            self.revoker,
            self.proofs,
            self.trail,
            grace=settings.refresh_grace,
            known_scopes=config.known_scopes,
        )
        self.administration = _administration(
            store.records, parts.hasher, clock, settings.issuer_names, self.trail, replica
        )
        self.rewrap = Rewrap(store.records, parts.vault, replica, self.trail)
        self.rotation = Rotation(
            store.records,
            store.facts,
            store.single_use,
            parts.vault,
            replica,
            clock,
            self.trail,
            parts.key_policy,
            tuple(ALGORITHMS),
        )
        self.sessions = Sessions(store.sessions, replica, self.revoker, clock)
        exchanger = Exchanger(
            authenticator,
            self.verifier,
            maker,
            recipients,
            self.proofs,
            clock,
            self.trail,
            config.lifetimes,
        )
        id_jags = IdJags(
            store.single_use,
            replica,
            issuers,
            reader,
            clock,
            self.guard,
            audiences=settings.issuer_names.all,
            leeway=settings.leeway,
        )
        self.repeated_issue = RepeatedIssue(replica, self.directory, self.guard, maker, clock, self.trail)
        self.issuer = TokenIssuer(
            authenticator,
            maker,
            self.keys,
            store.sessions,
            replica,
            self.trail,
            exchanger,
            id_jags,
            recipients,
            self.proofs,
            self.repeated_issue,
            config,
        )


def store_administration(
    records: RecordStore, hasher: PasswordHasher, clock: Clock, own: IssuerNames
) -> Administration:
    """Return the administration of records for a process that serves no clients, such as the command line.

    `own` are the issuer names of the service.
    """
    return _administration(records, hasher, clock, own, LoggedTrail(StructuredEventLog()), None)


def _administration(
    records: RecordStore,
    hasher: PasswordHasher,
    clock: Clock,
    own: IssuerNames,
    trail: AuditTrail,
    replica: ReplicaView | None,
) -> Administration:
    editor, keys = Records(records, trail, replica), StrictKeyChecker()
    return Administration(
        clients=Clients(editor, keys, clock),
        users=Users(editor, hasher, is_common, clock),
        issuers=TrustedIssuers(editor, keys, clock, own=own),
    )


def _attempt_policies(settings: Settings) -> AttemptPolicies:
    lockout = settings.attempts_lockout
    return AttemptPolicies(
        username=AttemptPolicy(free=10 * settings.attempts_per_username, lockout=lockout),
        username_at_peer=AttemptPolicy(free=settings.attempts_per_username, lockout=lockout),
        client=AttemptPolicy(free=20, lockout=lockout),
        peer=AttemptPolicy(free=settings.attempts_per_peer, lockout=lockout, forgive=False),
    )


def _issue_config(settings: Settings) -> IssueConfig:
    return IssueConfig(
        issuer=settings.issuer,
        lifetimes=LifetimeBounds(
            default=settings.access_token_lifetime, maximum=settings.max_access_token_lifetime
        ),
        session_lifetime=settings.session_lifetime,
        known_scopes=frozenset(settings.known_scopes),
    )
