"""Wires the use cases: which of them needs what. Opens nothing, starts nothing.

keys, directory ← store                      (kept in memory, read again as the log says)
issuer, refresher, revoker, verifier, …      (one object for each use case)
"""

from dataclasses import dataclass

from identity_service.domain.grants import LifetimeBounds
from identity_service.domain.ports import Clock, Journal, PasswordHasher
from identity_service.domain.store import Store
from identity_service.grpc_api import answers
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.vault import Vault
from identity_service.services.audit import StoredTrail
from identity_service.services.authenticate import Authenticator
from identity_service.services.directory import Directory
from identity_service.services.issue import Issuer
from identity_service.services.keyring import KeyRing
from identity_service.services.refresh import Refresher
from identity_service.services.revoke import RevokeConfig, Revoker
from identity_service.services.token_maker import IssueConfig, TokenMaker
from identity_service.services.verify import Verifier
from identity_service.settings import Settings
from identity_service.storage.replica import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the use cases are made of."""

    settings: Settings
    clock: Clock
    store: Store
    replica: Replica
    vault: Vault
    hasher: PasswordHasher
    journal: Journal


class UseCases:
    """One object for each use case."""

    def __init__(self, parts: Parts) -> None:
        settings, clock, store, replica = parts.settings, parts.clock, parts.store, parts.replica
        self.keys = KeyRing(store, parts.vault, clock)
        self.directory = Directory(store)
        replica.subscribe(self.keys.on_change)
        replica.subscribe(self.directory.on_change)
        self.trail = StoredTrail(store, parts.journal, queue=settings.audit_queue)

        codec = AccessTokenCodec(self.keys, settings.issuer)
        config = _issue_config(settings)
        authenticator = Authenticator(store, replica, self.directory, parts.hasher, clock)
        maker = TokenMaker(codec, self.keys, clock, config)
        self.verifier = Verifier(
            codec,
            self.keys,
            replica,
            clock,
            answers.render,
            leeway=settings.leeway,
            cache_entries=settings.cache_entries,
            serve_stale=settings.on_stale == "serve",
        )
        self.revoker = Revoker(store, replica, codec, self.keys, clock, self.trail, _revoke_config(settings))
        self.refresher = Refresher(
            store,
            replica,
            authenticator,
            self.keys,
            maker,
            self.revoker,
            self.trail,
            grace=settings.refresh_grace,
            known_scopes=config.known_scopes,
        )
        self.issuer = Issuer(authenticator, maker, self.keys, store, replica, self.trail, config)


def _issue_config(settings: Settings) -> IssueConfig:
    return IssueConfig(
        issuer=settings.issuer,
        lifetimes=LifetimeBounds(
            default=settings.access_token_lifetime, maximum=settings.max_access_token_lifetime
        ),
        session_lifetime=settings.session_lifetime,
        known_scopes=frozenset(settings.known_scopes),
    )


def _revoke_config(settings: Settings) -> RevokeConfig:
    return RevokeConfig(
        longest_lifetime=settings.max_access_token_lifetime,
        session_lifetime=settings.session_lifetime,
        leeway=settings.leeway,
    )
