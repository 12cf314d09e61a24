"""The checks of the TLS files, for `identity doctor` and, before it starts the service, `identity serve`."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from identity_service.adapters.clock import SystemClock
from identity_service.cli.output import say
from identity_service.cli.tls_files import expiry
from identity_service.composition import listeners
from identity_service.domain.errors import IdentityError
from identity_service.domain.urls import is_loopback
from identity_service.jose.certificates import CertificateFacts
from identity_service.settings import Settings
from identity_service.transport.tls import TlsFacts, TlsFiles, check_files, key_warning

_RENEWAL_DUE: Final = 0.2
"""The last part of a certificate's lifetime, as a fraction, in which it should have been renewed already."""


class Check(NamedTuple):
    """The result of one check (ok, warn or FAIL), with advice: one line of the report."""

    check: str
    result: str
    advice: str


def check_tls(settings: Settings, now: datetime) -> Iterator[Check]:
    """Yield the checks of the TLS files that the settings name."""
    files = listeners.tls_files(settings)
    if files is None:
        on_loopback = is_loopback(settings.listen)
        yield Check("TLS", "ok" if on_loopback else "warn", "off: calls and tokens are sent unencrypted")
        return
    try:
        facts = check_files(files)
    except IdentityError as error:
        yield Check(
            "TLS",
            "FAIL",
            f"{error}; until it is corrected, running processes use the files that they read last",
        )
        return
    yield from _check_all_dates(files, facts, now)
    if warning := key_warning(files):
        yield Check("TLS key", "warn", warning)


def warn_of_dates(settings: Settings) -> None:
    """Print which certificates are not valid now or soon. Raises ConfigurationError if a file is unusable."""
    if (files := listeners.tls_files(settings)) is not None:
        for check in _check_all_dates(files, check_files(files), SystemClock().now()):
            if check.result != "ok":
                say(f"{check.check}: {check.advice}")


def _check_all_dates(files: TlsFiles, facts: TlsFacts, now: datetime) -> Iterator[Check]:
    yield _check_dates("TLS certificate", files.certificate, facts.certificate, now)
    for authority in facts.authorities:
        yield _check_dates("TLS client authority", files.client_ca, authority, now)


def _check_dates(check: str, file: Path | None, certificate: CertificateFacts, now: datetime) -> Check:
    of_names, end = f"{file} ({', '.join(certificate.names)})", f"{certificate.expire_time:%F %T} UTC"
    left = certificate.expire_time - now
    if now < certificate.start_time:
        start = f"{certificate.start_time:%F %T} UTC"
        return Check(check, "FAIL", f"{of_names} is not valid before {start}; wait, or correct the clock")
    if left <= timedelta(0):
        advice = f"{expiry(file, certificate)}; replace the file, a restart is not needed"
        return Check(check, "FAIL", advice)
    if left < (certificate.expire_time - certificate.start_time) * _RENEWAL_DUE:
        return Check(check, "warn", f"{of_names} expires on {end}; renew it")
    return Check(check, "ok", f"{of_names} is valid until {end}")
