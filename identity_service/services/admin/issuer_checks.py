"""Validates the record of a trusted issuer. Pure functions: they fetch no key and store nothing."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Final

from identity_service.domain.errors import FieldViolation, InvalidRequestError
from identity_service.domain.grants import is_audience
from identity_service.domain.issuers import ISSUER_ALGORITHMS, IssuerNames, TrustedIssuer, TrustRule
from identity_service.domain.ports import PublicKeyChecker
from identity_service.domain.urls import MAX_URL_CHARS, SAFE_URL, is_safe_url
from identity_service.domain.visible import VISIBLE_NAME, has_controls, is_visible_name
from identity_service.services.admin.checks import MAX_DURATION, is_client_id

MAX_ISSUER_CHARS: Final = 256
MAX_AUDIENCES: Final = 16
MAX_RULES: Final = 100
MAX_CLAIMS: Final = 20
MAX_CLAIM_CHARS: Final = 512

_PATH: Final = "trusted_issuer"
Found = Iterator[tuple[str, str]]
"""The violations, each as a field and a description."""


def is_issuer(text: str) -> bool:
    """Return whether a text may be the name of an issuer that is not trusted yet."""
    return 1 <= len(text) <= MAX_ISSUER_CHARS and is_visible_name(text)


def check_issuer(
    issuer: TrustedIssuer, keys: PublicKeyChecker, *, own: IssuerNames | None = None, stored: bool = False
) -> None:
    """Check all fields of a record.

    Args:
        issuer: the record.
        keys: checks public keys.
        own: this service's own issuer names, if they are known.
        stored: True if there is a record of this name already. Then the form of the name is not checked,
            since an older version may have accepted it.

    Raises:
        InvalidRequestError: a field is not valid; the error names all of them.
    """
    found = [
        *_wrong_name(issuer.issuer, own, stored=stored),
        *_wrong_issuer(issuer),
        *_wrong_keys(issuer, keys),
        *_wrong_rules(issuer.rules),
    ]
    if found:
        raise InvalidRequestError(
            *(FieldViolation(field=f"{_PATH}.{field}", description=text) for field, text in found)
        )


def _wrong_name(name: str, own: IssuerNames | None, *, stored: bool) -> Found:
    if own is not None and (spelled := own.spelled(name)):
        yield (
            "issuer",
            f"must not be this service's own name ({spelled}) or another spelling of it: tokens of this "
            "service are exchanged as `subject_token`",
        )
    if not stored and not is_issuer(name):
        yield "issuer", f"must be 1 to {MAX_ISSUER_CHARS} {VISIBLE_NAME}"


def _wrong_issuer(issuer: TrustedIssuer) -> Found:
    if len(issuer.audiences) > MAX_AUDIENCES:
        yield "audiences", f"must have at most {MAX_AUDIENCES} entries"
    if not all(is_audience(audience) for audience in issuer.audiences):
        yield "audiences", "must be 1 to 256 visible ASCII characters each"
    if not set(issuer.algorithms) <= set(ISSUER_ALGORITHMS):
        yield "algorithms", f"must be some of {', '.join(ISSUER_ALGORITHMS)}"
    if issuer.max_age is not None and not timedelta(seconds=1) <= issuer.max_age <= MAX_DURATION:
        yield "max_age", f"must be from 1 second to {MAX_DURATION.days} days"


def _wrong_keys(issuer: TrustedIssuer, keys: PublicKeyChecker) -> Found:
    if [issuer.jwks_uri, issuer.jwks_file, issuer.jwks].count(None) != 2:
        yield "keys", "exactly one of jwks_uri, jwks_file and jwks must be set"
    if issuer.jwks_uri is not None and not is_safe_url(issuer.jwks_uri):
        yield "jwks_uri", f"must be {SAFE_URL}"
    if issuer.jwks_file is not None and not _is_absolute_path(issuer.jwks_file):
        yield "jwks_file", "must be the absolute path of a file"
    if issuer.jwks is not None and set(issuer.algorithms) <= set(ISSUER_ALGORITHMS):
        try:
            keys.check_key_set(issuer.jwks, issuer.algorithms)
        except ValueError as error:
            yield "jwks", str(error)


def _wrong_rules(rules: tuple[TrustRule, ...]) -> Found:
    if not 1 <= len(rules) <= MAX_RULES:
        yield "rules", f"must have 1 to {MAX_RULES} entries"
    for index, rule in enumerate(rules[:MAX_RULES]):
        if not is_client_id(rule.client_id):
            yield f"rules[{index}].client_id", "must be the id of a client"
        if not _are_claims(rule.claims):
            yield (
                f"rules[{index}].claims",
                f"must have 1 to {MAX_CLAIMS} entries, names and values of 1 to {MAX_CLAIM_CHARS} characters "
                "without control characters",
            )


def _are_claims(claims: Mapping[str, str]) -> bool:
    return 1 <= len(claims) <= MAX_CLAIMS and all(
        1 <= len(text) <= MAX_CLAIM_CHARS and not has_controls(text)
        for pair in claims.items()
        for text in pair
    )


def _is_absolute_path(text: str) -> bool:
    return len(text) <= MAX_URL_CHARS and text.isprintable() and PurePosixPath(text).is_absolute()
