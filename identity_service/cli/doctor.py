"""`identity doctor`: checks what the service depends on, and says how to fix each problem."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Final

import typer

from identity_service.adapters.clock import SystemClock
from identity_service.bootstrap import ENDED
from identity_service.cli.doctor_issuers import issuer_checks
from identity_service.cli.local_settings import (
    ConfigOption,
    StoreOption,
    settings_for_store_admin,
    trial_settings,
)
from identity_service.cli.output import Exit, JsonFlag, show_table
from identity_service.cli.tls_check import Check, check_tls
from identity_service.composition import checks, opening
from identity_service.composition.files import file_checks
from identity_service.composition.store_admin import StoreAdmin, open_store_admin
from identity_service.domain.clock_guard import LONGEST_BACK
from identity_service.domain.errors import ConfigurationError, IdentityError, StoreFencedError
from identity_service.domain.keys import KeyPurpose, StoredKey, key_in_use
from identity_service.domain.ports import KeyVault
from identity_service.domain.store import all_records
from identity_service.grpc_api.core.check import why_not
from identity_service.replication.freshness import FRESH
from identity_service.settings import Settings

_OTHER_FILES: Final = ("principals_file", "ext_authz_descriptors")
"""The settings that name files and have no check of their own here."""


def doctor(config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Check settings, keys, TLS, store, clock and issuers, and say what to fix. Exit 1 if a check fails."""
    settings = settings_for_store_admin(config, store)
    is_trial = trial_settings(config, store) is not None
    report = [Check("settings", "ok", ""), *_checks(settings, is_trial=is_trial)]
    show_table([line._asdict() for line in report], as_json=as_json, empty="")
    if any(line.result == "FAIL" for line in report):
        raise typer.Exit(Exit.FAILED)


def _checks(settings: Settings, *, is_trial: bool) -> Iterator[Check]:
    if is_trial:
        yield Check("issuer name", "ok", "that of a trial (--dev): the URL at which it serves HTTP")
    else:
        yield _attempt("issuer name", lambda: checks.check_issuer(settings), settings.issuer)
    yield _attempt("master key", lambda: opening.open_sealer(settings))
    yield from check_tls(settings, SystemClock().now())
    files = file_checks(settings)
    for name in _OTHER_FILES:
        if name in files:
            yield _attempt(name, files[name])
    yield from _check_grpcio(settings)
    with ExitStack() as opened:
        try:
            _require_file(settings)
            findings = checks.check_store(settings)
            store_admin = opened.enter_context(open_store_admin(settings))
        except IdentityError as error:
            yield Check("store", "FAIL", str(error))
            return
        yield Check("store", "ok", checks.store_name(settings))
        for finding in findings:
            result = "FAIL" if finding.severity == "refuse" else "warn"
            yield Check("store set-up", result, f"{finding.what}; {finding.fix}")
        if not findings:
            yield Check("store set-up", "ok", f"durability {settings.durability}")
        yield _attempt("initialised", lambda: _check_initialised(store_admin))
        yield _attempt("clock", lambda: _check_clock(store_admin, settings))
        yield from _check_processes(store_admin, settings)
        yield _attempt("keys", lambda: _check_keys(store_admin, settings))
        yield from _check_issuers(store_admin, settings)


def _require_file(settings: Settings) -> None:
    """Raise ConfigurationError if the file of an SQLite store is missing, since opening would create it."""
    file = checks.store_file(settings)
    try:
        if file is not None:
            file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            f"{checks.store_name(settings)}: there is no such file; run `identity init` to create the "
            "store, or set `store` (IDENTITY_STORE) to the path of an existing one"
        ) from None
    except OSError:
        return  # opening the store reports the details


def _check_grpcio(settings: Settings) -> Iterator[Check]:
    """Warn if the installed grpcio needs a thread for each slow client; see `grpcio_fallback`."""
    if settings.engine == "grpcio" and (reason := why_not()):
        yield Check(
            "grpcio",
            "warn",
            f"{reason}: slow clients occupy threads of the service; install a version that this release "
            'allows, or set `engine = "envoy"`',
        )


def _attempt(name: str, check: Callable[[], object], advice: str = "") -> Check:
    """Return the result of a check, with the text that it returns, or else this advice."""
    try:
        found = check()
    except IdentityError as error:
        return Check(name, "FAIL", str(error))
    return Check(name, "ok", found if isinstance(found, str) else advice)


def _check_initialised(store_admin: StoreAdmin) -> None:
    """Raise an error if no service can start on the store: it has no head, or was moved to another store."""
    store_admin.store.log.head()
    fence = store_admin.store.copying.fenced()
    if fence is not None:
        raise StoreFencedError(fence.target)


def _check_clock(store_admin: StoreAdmin, settings: Settings) -> str:
    difference = abs((store_admin.store.log.head().time - store_admin.clock.now()).total_seconds())
    if difference > settings.leeway.total_seconds():
        raise IdentityError(f"differs from the store's by {difference:.0f} s; run NTP on both machines")
    remembered = store_admin.store.log.head().marks.time
    if remembered is not None and store_admin.clock.now() < remembered - LONGEST_BACK:
        raise IdentityError(
            f"is behind {remembered:%F %T} UTC, which the store remembers; set it right, or run "
            "`identity clock accept` if it is right"
        )
    return f"differs from the store's by {difference:.3f} s"


def _check_processes(store_admin: StoreAdmin, settings: Settings) -> Iterator[Check]:
    """Report the status that each process serving from this store wrote with its last heartbeat."""
    try:
        now, heartbeats = store_admin.store.log.head().time, store_admin.store.log.heartbeats()
    except IdentityError:
        return  # another check reports this error
    silent_after = max(settings.max_staleness, 2 * settings.heartbeat_interval)
    for heartbeat in heartbeats:
        silent = now - heartbeat.time
        name = f"process {heartbeat.process}"
        if heartbeat.status == ENDED:
            continue
        if silent > silent_after:
            text = (
                f"last heartbeat {silent.total_seconds():.0f} s ago: it was killed, or cannot reach the store"
            )
            yield Check(name, "warn", text)
        elif heartbeat.status:
            yield Check(name, "ok" if heartbeat.status == FRESH else "FAIL", heartbeat.status)


def _check_issuers(store_admin: StoreAdmin, settings: Settings) -> Iterator[Check]:
    """Report whether the keys of each trusted issuer can be read from this machine."""
    try:
        yield from issuer_checks(store_admin, settings)
    except IdentityError as error:
        yield Check("issuers", "FAIL", str(error))


def _check_keys(store_admin: StoreAdmin, settings: Settings) -> str:
    keys = [found.record for found in all_records(store_admin.store.records, StoredKey)]
    vault = opening.open_vault(settings)
    for purpose in KeyPurpose:
        if key_in_use(keys, purpose, store_admin.clock.now()) is None:
            raise IdentityError(
                f"no key of purpose `{purpose}`: restore a backup, or run `identity init` on a new store"
            )
    # All keys are tried: a process that cannot open one of them does not start.
    closed = [key for key in keys if not _opens(vault, key)]
    if closed:
        names = ", ".join(f"{key.key_id} ({key.purpose})" for key in closed)
        which = f"{len(closed)} of {len(keys)} keys: {names}" if len(closed) < len(keys) else "any key"
        raise IdentityError(
            f"the master key does not open {which}; set "
            "master_key_file to the master key that sealed them, or, while you replace the master key, set "
            "other_master_key_file to it"
        )
    return f"{len(keys)} keys, the master key opens all"


def _opens(vault: KeyVault, key: StoredKey) -> bool:
    open_key: Mapping[KeyPurpose, Callable[[StoredKey], object]] = {
        KeyPurpose.SIGN: vault.open_signing,
        KeyPurpose.REFRESH: vault.open_refresh,
        KeyPurpose.ENCRYPT: vault.open_decrypting,
    }
    try:
        open_key[key.purpose](key)
    except ConfigurationError:
        return False
    return True
