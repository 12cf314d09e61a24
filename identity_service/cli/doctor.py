"""`identity doctor`: checks what the service stands on, and says what to do about what it finds."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import typer

from identity_service import bootstrap, opening
from identity_service.cli.options import ConfigOption, StoreOption, settings_for_office
from identity_service.cli.output import Exit, JsonFlag, failures, show_table
from identity_service.domain.errors import IdentityError
from identity_service.domain.keys import KeyPurpose, StoredKey, key_in_use
from identity_service.settings import Settings


class Check(NamedTuple):
    """One line of the report."""

    check: str
    result: str
    advice: str


def doctor(config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Check settings, master key, store, durability, clock and keys. Exit 1 when something must be mended."""
    with failures(as_json=as_json):
        settings = settings_for_office(config, store)
        report = [Check("settings", "ok", ""), *_checks(settings)]
        show_table([line._asdict() for line in report], as_json=as_json, empty="")
        if any(line.result == "FAIL" for line in report):
            raise typer.Exit(Exit.FAILED)


def _checks(settings: Settings) -> Iterator[Check]:
    yield _attempt("master key", lambda: _nothing(settings.read_master_key()))
    try:
        findings = opening.check_store(settings)
    except IdentityError as error:
        yield Check("store", "FAIL", str(error))
        return
    yield Check("store", "ok", settings.masked()["store"])
    for finding in findings:
        yield Check(
            "store set-up",
            "FAIL" if finding.severity == "refuse" else "warn",
            f"{finding.what}; {finding.fix}",
        )
    if not findings:
        yield Check("store set-up", "ok", f"durability {settings.durability}")
    with bootstrap.open_office(settings) as office:
        yield _attempt("initialised", lambda: _nothing(office.store.head()))
        yield _attempt("clock", lambda: _check_clock(office, settings))
        yield _attempt("keys", lambda: _check_keys(office, settings))


def _attempt(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", check())
    except IdentityError as error:
        return Check(name, "FAIL", str(error))


def _nothing(_: object) -> str:
    return ""


def _check_clock(office: bootstrap.Office, settings: Settings) -> str:
    difference = abs((office.store.head().time - office.clock.now()).total_seconds())
    if difference > settings.leeway.total_seconds():
        raise IdentityError(f"differs from the store's by {difference:.0f} s; run NTP on both machines")
    return f"differs from the store's by {difference:.3f} s"


def _check_keys(office: bootstrap.Office, settings: Settings) -> str:
    keys = [found.record for found in office.store.list_records(StoredKey, limit=1000)]
    vault = opening.open_vault(settings)
    for purpose, open_key in (
        (KeyPurpose.SIGN, vault.open_signing),
        (KeyPurpose.REFRESH, vault.open_refresh),
    ):
        key = key_in_use(keys, purpose, office.clock.now())
        if key is None:
            raise IdentityError(
                f"no key for {purpose}; restore the store, or run `identity init` on a new one"
            )
        open_key(key)
    return f"{len(keys)} keys, the master key opens those in use"
