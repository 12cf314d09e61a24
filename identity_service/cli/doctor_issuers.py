"""The checks of trusted issuers in `identity doctor`: of their names, and of their keys."""

import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from identity_service.adapters.remote_keys.documents import FetchError
from identity_service.adapters.remote_keys.fetching import HttpsFetcher
from identity_service.adapters.remote_keys.files import read_file
from identity_service.cli.tls_check import Check
from identity_service.composition import opening
from identity_service.composition.store_admin import StoreAdmin
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.store import all_records
from identity_service.jose.jwks import MAX_SET_BYTES, KeySet, read_key_set
from identity_service.settings import Settings

_MOST_ISSUERS: Final = 20
"""The largest number of issuers whose keys are read, since each server may take 10 s to answer."""
_MOST_REASONS: Final = 5
"""The largest number of keys of one issuer for which the report says why they are not used."""


def issuer_checks(store_admin: StoreAdmin, settings: Settings) -> Iterator[Check]:
    """Check the name of each trusted issuer, and read the keys of the first 20.

    Raises:
        ConfigurationError: a CA file or a bearer token for fetching keys cannot be read.
    """
    fetch = HttpsFetcher(opening.open_key_servers(settings), max_bytes=MAX_SET_BYTES)
    issuers = [found.record for found in all_records(store_admin.store.records, TrustedIssuer)]
    names = settings.issuer_names
    own = {issuer.issuer: name for issuer in issuers if (name := names.spelled(issuer.issuer))}
    for name in sorted(own):
        setting = "issuer" if own[name] == names.current else "accepted_issuers"
        yield Check(
            "issuer",
            "warn",
            f"{name}: is not trusted, since it is this service's own name (`{setting}`: {own[name]}); "
            f"run `identity issuer delete {shlex.quote(name)}`",
        )
    records = iter([issuer for issuer in issuers if issuer.issuer not in own])
    for issuer in islice(records, _MOST_ISSUERS):
        try:
            keys = read_key_set(_content(issuer, fetch), issuer.algorithms)
        except (FetchError, ValueError) as error:
            yield Check("issuer", "FAIL", f"{issuer.issuer}: its keys cannot be read: {error}")
        except OSError as error:
            yield Check(
                "issuer", "FAIL", f"{issuer.issuer}: {issuer.jwks_file} cannot be read: {error.strerror}"
            )
        else:
            count = len(keys.keys)
            text = f"{issuer.issuer}: {count} key{'' if count == 1 else 's'}{_unused(keys)}"
            yield Check("issuer", "ok" if keys.keys else "FAIL", text)
    if more := sum(1 for _ in records):
        yield Check(
            "issuer", "warn", f"the keys of {more} more issuers were not read: see the log of the service"
        )


def _content(issuer: TrustedIssuer, fetch: HttpsFetcher) -> bytes:
    if issuer.jwks_uri is not None:
        return fetch(issuer.jwks_uri).body
    if issuer.jwks_file is not None:
        return read_file(Path(issuer.jwks_file), MAX_SET_BYTES)[0]
    return (issuer.jwks or "").encode()


def _unused(keys: KeySet) -> str:
    if not keys.unused:
        return ""
    more = len(keys.unused) - _MOST_REASONS
    reasons = [*keys.unused[:_MOST_REASONS], *([f"and {more} more"] if more > 0 else [])]
    return f", {len(keys.unused)} not used: {'; '.join(reasons)}"
