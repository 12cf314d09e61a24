"""Administration of trusted issuers: which are accepted, and which changes revoke their tokens."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.secret import Secret
from identity_service.services.admin.issuers import ISSUER_FIELDS, TrustedIssuers
from identity_service.services.authenticate import FederatedToken
from tests.jwts import assertion_claims, key_set
from tests.service_site import KEY, OTHER_ISSUER
from tests.unit.services.use_case_site import CALLER, UseCaseSite

RULE = TrustRule(claims={"sub": "*"}, client_id=PrincipalId("reports"))
WANTED = TrustedIssuer(issuer=OTHER_ISSUER, jwks=key_set(KEY.public()), rules=(RULE,))


@pytest.fixture
def issuers(site: UseCaseSite) -> TrustedIssuers:
    """Return the administration of issuers; the store has the client that the issuer's rule names."""
    site.new_client()
    return site.use.administration.issuers


def is_trusted(site: UseCaseSite) -> bool:
    claims = assertion_claims("", site.clock.now(), iss=OTHER_ISSUER, sub="a job")
    site.replica.catch_up()
    try:
        site.use.authenticator.client(FederatedToken(jwt=Secret(KEY.jwt(claims))))
    except CredentialRefusedError:
        return False
    return True


def test_the_tokens_of_an_issuer_are_trusted_until_it_is_deleted(
    site: UseCaseSite, issuers: TrustedIssuers
) -> None:
    assert not is_trusted(site)

    made = issuers.create(WANTED, origin=CALLER)

    assert made.record == replace(WANTED, create_time=site.clock.now())
    assert issuers.get(OTHER_ISSUER) == made
    assert is_trusted(site)

    issuers.delete(OTHER_ISSUER, origin=CALLER)

    assert not is_trusted(site)
    event = {"outcome": "done", "actor": "admin", "target": OTHER_ISSUER, "peer": CALLER.peer}
    for type_ in ("issuer_trusted", "issuer_distrusted"):
        assert site.audited(type_) == site.stored(type_) == [event]


def test_issuers_are_listed_by_their_names_a_page_at_a_time(issuers: TrustedIssuers) -> None:
    for name in "cab":
        issuers.create(replace(WANTED, issuer=f"https://{name}.example"))

    def page(after: str = "", limit: int = 100) -> list[str]:
        return [found.record.issuer[8] for found in issuers.list(after=after, limit=limit)]

    assert page() == ["a", "b", "c"]
    assert page("https://a.example", 1) == ["b"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"issuer": "Identity-Service"}, "issuer"), ({"issuer": "a\nb"}, "issuer"), ({"rules": ()}, "rules")],
)
def test_an_issuer_that_is_not_valid_or_is_this_service_is_refused(
    site: UseCaseSite, issuers: TrustedIssuers, changes: dict[str, str], field: str
) -> None:
    wanted = replace(WANTED, **changes)  # type: ignore[arg-type]

    with pytest.raises(InvalidRequestError) as refused:
        issuers.create(wanted)
    assert [violation.field for violation in refused.value.violations] == [f"trusted_issuer.{field}"]

    # A record that older rules have let in is still not trusted, and only the form of its name may stay.
    site.store.records.create(wanted)
    if changes == {"issuer": "a\nb"}:
        issuers.update(replace(wanted, single_use=True), ["single_use"])
        return
    with pytest.raises(InvalidRequestError):
        issuers.update(replace(wanted, single_use=True), ["single_use"])


VALUES: dict[str, Any] = {
    "jwks_uri": "https://issuer.example/keys",
    "jwks_file": "/etc/keys",
    "jwks": key_set(KEY.public(), KEY.public(kid="k2")),
    "audiences": ("me",),
    "algorithms": ("ES256",),
    "rules": (RULE, RULE),
    "single_use": True,
    "max_age": timedelta(minutes=5),
}
SOURCES = ("jwks_uri", "jwks_file", "jwks")


@pytest.mark.parametrize("field", ISSUER_FIELDS)
def test_an_update_changes_the_field_that_it_names_and_a_source_of_keys_replaces_the_other(
    site: UseCaseSite, issuers: TrustedIssuers, field: str
) -> None:
    old = issuers.create(WANTED).record
    wanted = TrustedIssuer(issuer=OTHER_ISSUER, **VALUES)

    changed = issuers.update(wanted, [field], origin=CALLER).record

    sources: dict[str, Any] = dict.fromkeys(SOURCES) if field in SOURCES else {}
    assert changed == replace(old, **(sources | {field: VALUES[field]}))
    fields = {field, "jwks"} if field in SOURCES else {field}
    event = {
        "outcome": "done",
        "actor": "admin",
        "target": OTHER_ISSUER,
        "peer": CALLER.peer,
        "fields": ",".join(sorted(fields)),
    }
    assert site.audited("issuer_updated") == site.stored("issuer_updated") == [event]


@pytest.mark.parametrize("fields", [["jwks"], ["jwks_uri", "jwks_file"]])
def test_an_update_leaves_exactly_one_source_of_keys(issuers: TrustedIssuers, fields: list[str]) -> None:
    old = issuers.create(WANTED)
    values = {} if fields == ["jwks"] else {field: VALUES[field] for field in fields}
    wanted = TrustedIssuer(issuer=OTHER_ISSUER, **values)

    with pytest.raises(InvalidRequestError, match="exactly one"):
        issuers.update(wanted, fields)

    assert issuers.get(OTHER_ISSUER) == old


def test_the_source_that_stays_may_be_named_with_the_others_unset(issuers: TrustedIssuers) -> None:
    issuers.create(WANTED)

    changed = issuers.update(replace(WANTED, jwks=None, jwks_file="/etc/keys"), list(SOURCES)).record

    assert (changed.jwks, changed.jwks_file) == (None, "/etc/keys")
