"""Opens the store and the keys that the settings name, and translates the settings for other parts."""

from typing import TYPE_CHECKING

from identity_service.adapters.password_hashing import Argon2Config, Argon2Hasher
from identity_service.adapters.remote_keys.documents import KeyDocument
from identity_service.adapters.remote_keys.holder import HeldIssuerKeys
from identity_service.adapters.remote_keys.servers import KeyServer, KeyServers
from identity_service.composition.checks import named_if_away
from identity_service.composition.waiting import waiting_calls
from identity_service.config.tokens import LONGEST_SESSION
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.keys import KeyPolicy, KeyPurpose
from identity_service.domain.ports import Clock, EventLog
from identity_service.domain.store import Store
from identity_service.jose.jwks import MAX_SET_BYTES
from identity_service.jose.public_keys import StrictKeyChecker
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.replication.maintenance import retention_for
from identity_service.replication.replica import ReplicaConfig
from identity_service.services.admin.administration import Administration
from identity_service.settings import Settings
from identity_service.transport.forwarded_certificates import ForwardedCertificates
from identity_service.transport.limits import Bound, LimitsConfig
from identity_service.transport.tls import Certificates

if TYPE_CHECKING:
    from identity_service.principals.keeper import PrincipalsKeeper


def open_store(
    settings: Settings, clock: Clock, event_log: EventLog | None = None, *, may_be_damaged: bool = False
) -> Store:
    """Open the store at the settings' URL.

    Args:
        settings: name the store and its limits.
        clock: the wall clock of the process.
        event_log: receives the store's events. If it is given, a Redis server that does not meet the
            settings, such as `durability`, is refused.
        may_be_damaged: whether a store whose head is damaged is opened as well, because it is about to be
            replaced.

    Raises StoreUnavailableError, ConfigurationError.
    """
    scheme, _, rest = settings.store.partition("://")
    # Each store is imported here, since a process has only one: a sixth of its start is the Redis client.
    if scheme == "sqlite":
        from identity_service.storage.sqlite import SqliteStore

        return SqliteStore.open(
            rest.removeprefix("/"),
            clock=clock,
            audit_entries=settings.audit_entries,
            audit_traffic_entries=settings.audit_traffic_entries,
            event_log=event_log,
            may_be_damaged=may_be_damaged,
        )
    if scheme.startswith("redis"):
        from identity_service.composition.redis_opening import open_redis

        with named_if_away(settings):
            return open_redis(settings, clock, event_log, may_be_damaged=may_be_damaged)
    raise ConfigurationError(f"store: the scheme {scheme!r} is not supported; use sqlite:/// or redis://")


def open_sealer(settings: Settings) -> Sealer:
    """Return the sealer for the master key. Raises ConfigurationError if the key is missing or too short."""
    return Sealer(
        settings.read_master_key(),
        settings.read_other_master_key(),
        untrimmed=settings.untrimmed_master_key(),
    )


def open_vault(settings: Settings) -> Vault:
    """Return the key vault. Raises ConfigurationError if the master key is missing or too short."""
    return Vault(open_sealer(settings))


def limits_config(settings: Settings) -> LimitsConfig:
    """Return the bounds on calls, streams and connections that clients may hold open."""
    return LimitsConfig(
        calls=Bound(total=settings.max_calls, per_peer=settings.max_calls_per_peer),
        receives=Bound(total=settings.max_receives, per_peer=settings.max_receives_per_peer),
        watchers=Bound(total=settings.max_watchers, per_peer=settings.max_watchers_per_peer),
        health_watchers=Bound(
            total=settings.max_health_watchers, per_peer=settings.max_health_watchers_per_peer
        ),
        reflection_streams=Bound(
            total=settings.max_reflection_streams, per_peer=settings.max_reflection_streams_per_peer
        ),
        audit_tails=Bound(total=settings.max_audit_tails, per_peer=settings.max_audit_tails),
        exempt=settings.limits_exempt,
        proxies=settings.trusted_proxies,
        request_timeout=settings.request_timeout,
        send_timeout=settings.send_timeout,
    )


def forwarded_certificates(
    settings: Settings, certificates: Certificates | None
) -> ForwardedCertificates | None:
    """Return the reader of the certificates that trusted proxies forward; None = they are ignored.

    They must be of the client authorities in `certificates`, if there are any.
    """
    header = settings.client_certificate_header
    if not header:
        return None
    return ForwardedCertificates(
        header, lambda: certificates.current.client_ca if certificates is not None else None
    )


def replica_config(settings: Settings) -> ReplicaConfig:
    """Return the limits of a replica: its longest staleness, and the time for which the log keeps entries."""
    return ReplicaConfig(
        max_staleness=settings.max_staleness,
        leeway=settings.leeway,
        retention=retention_for(settings.max_access_token_lifetime, settings.leeway),
        strong_limit=settings.strong_limit,
        marks=settings.marks,
    )


def key_policy(settings: Settings) -> KeyPolicy:
    """Return the times that govern the rotation of keys, and the lifetimes of tokens of each kind of key."""
    return KeyPolicy(
        rotate_every=settings.rotate_every,
        publish_before=settings.publish_before,
        lifetimes={
            KeyPurpose.SIGN: retention_for(settings.max_access_token_lifetime, settings.leeway),
            KeyPurpose.ENCRYPT: retention_for(settings.max_access_token_lifetime, settings.leeway),
            # A session from before session_lifetime was shortened may live longer than the setting says now.
            KeyPurpose.REFRESH: LONGEST_SESSION,
        },
    )


def open_hasher(settings: Settings) -> Argon2Hasher:
    """Return the password hasher; its child processes start when they are first needed.

    Raises ConfigurationError if the system lacks memory or threads for one hash.
    """
    config = Argon2Config(
        time_cost=settings.argon2_time_cost,
        memory_kib=settings.argon2_memory_kib,
        parallelism=settings.argon2_parallelism,
        processes=settings.password_processes,
        queue=settings.password_queue,
    )
    return Argon2Hasher(config)


def open_key_servers(settings: Settings) -> KeyServers:
    """Return the authorities and tokens with which issuers' keys are fetched. Raises ConfigurationError."""
    servers = [
        KeyServer(url=server.url, ca_file=server.ca_file, token_file=server.token_file)
        for server in settings.jwks_servers
    ]
    return KeyServers(settings.issuer_ca_file, servers)


def open_issuer_keys(settings: Settings, clock: Clock, event_log: EventLog) -> HeldIssuerKeys:
    """Return the keys of trusted issuers; they are fetched when they are first needed.

    Raises ConfigurationError.
    """
    servers = open_key_servers(settings)

    def fetch(url: str) -> KeyDocument:
        # Imported here, since most processes have no trusted issuer whose keys are fetched.
        from identity_service.adapters.remote_keys.fetching import HttpsFetcher

        return HttpsFetcher(servers, max_bytes=MAX_SET_BYTES)(url)

    return HeldIssuerKeys(fetch, clock, event_log, waiting=waiting_calls(settings).for_issuers)


def open_principals(
    settings: Settings, directory: Administration, event_log: EventLog
) -> "PrincipalsKeeper | None":
    """Return the keeper of the records that `principals_file` declares; None if it is not set."""
    if settings.principals_file is None:
        return None
    # Imported here, since YAML and the schema take megabytes that most processes do not need.
    from identity_service.principals.inside import OwnRecords
    from identity_service.principals.keeper import PrincipalsKeeper

    return PrincipalsKeeper(
        settings.principals_file,
        OwnRecords(directory),
        StrictKeyChecker(),
        event_log,
        own=settings.issuer_names,
    )
