"""Tokens of trusted issuers as credentials: the client that each proves, and reasons for the operator."""

from dataclasses import replace
from typing import Any

import pytest

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.ids import EVERYONE, PrincipalId
from identity_service.domain.issuers import federated_id
from identity_service.domain.log import RecordKind
from identity_service.domain.secret import Secret
from identity_service.services.authenticate import (
    FederatedToken,
)
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.revoke import ByPrincipal
from tests.jwts import PartyKey, assertion_claims
from tests.service_site import KEY, OTHER_ISSUER
from tests.unit.services.use_case_site import UseCaseSite

CLIENT = PrincipalId("reports")
ENDPOINT = "https://id.example/oauth2/token"
EDDSA, SECOND_KEY = PartyKey.make("EdDSA", "ed"), PartyKey.make(key_id="k2")
EXPIRED = "the JWT has expired"
USED = "the JWT was used before, and is for a single use"
DISABLED = "the client is disabled"


def prove(site: UseCaseSite, credential: FederatedToken) -> AuthenticatedClient:
    return site.use.authenticator.client(credential)


def federated(
    site: UseCaseSite, *, key: PartyKey = KEY, header: dict[str, Any] | None = None, **options: Any
) -> FederatedToken:
    """Return a token of the trusted issuer. `options` change its claims, or are members of the request."""
    request = {name: options.pop(name) for name in ("client_id",) if name in options}
    claims = assertion_claims("", site.clock.now(), **({"iss": OTHER_ISSUER, "sub": "a job"} | options))
    return FederatedToken(jwt=Secret(key.jwt(claims, header)), **request)


@pytest.mark.parametrize(
    ("options", "reason", "named"),
    [
        ({}, "", CLIENT),
        ({"client_id": CLIENT}, "", CLIENT),
        ({"iss": "https://x.example"}, "the token's issuer is not trusted", ""),
        ({"header": {"alg": "ES256", "typ": "JWT"}}, "the token's header has no kid", ""),
        (
            {"key": EDDSA, "header": {"alg": "EdDSA", "kid": "k1"}},
            "the assertion's key is for another algorithm",
            "",
        ),
        ({"key": SECOND_KEY}, "the token names a key that its issuer does not have", ""),
        ({"aud": ENDPOINT}, "the token's aud is none of the issuer's audiences", ""),
        ({"exp": -9}, "", CLIENT),
        ({"exp": -10}, EXPIRED, ""),
        ({"sub": "a robot"}, "no rule of the token's issuer applies to it", ""),
        (
            {"sub": "a stranger"},
            "the client that the issuer's rule names does not exist",
            "",
        ),
    ],
)
def test_a_token_of_a_trusted_issuer_proves_the_client_of_the_rule_that_applies(
    site: UseCaseSite, options: dict[str, Any], reason: str, named: str
) -> None:
    site.new_client()
    site.trust_issuer(rules={"a job": CLIENT, "a stranger": "nobody"})

    assert site.refusal(federated(site, **options)) == (reason, named)


@pytest.mark.parametrize(
    ("options", "details"),
    [
        ({"iss": "https://x.example"}, {"issuer": "https://x.example"}),
        ({"key": SECOND_KEY}, {"issuer": OTHER_ISSUER, "kid": "k2"}),
        ({}, {"issuer": OTHER_ISSUER, "client_id": CLIENT}),
    ],
)
def test_the_operator_is_told_the_names_of_a_token_that_is_refused(
    site: UseCaseSite, options: dict[str, Any], details: dict[str, str]
) -> None:
    site.new_client()
    site.trust_issuer()
    site.store.records.delete(RecordKind.CLIENT, CLIENT)
    site.replica.catch_up()

    with pytest.raises(CredentialRefusedError) as refused:
        prove(site, federated(site, **options))

    assert refused.value.details == details


@pytest.mark.parametrize(("single_use", "again"), [(False, ""), (True, USED)])
def test_a_token_works_once_only_if_its_issuer_is_trusted_that_far(
    site: UseCaseSite, single_use: bool, again: str
) -> None:
    site.new_client()
    site.trust_issuer(single_use=single_use)
    token = federated(site)

    found = [site.refusal(token) for _ in range(2)]

    assert found == [("", CLIENT), (again, CLIENT)]
    if single_use:
        site.pass_time(seconds=69)
        assert site.refusal(token) == (USED, CLIENT)


def test_the_ids_of_tokens_are_those_of_each_issuer(site: UseCaseSite) -> None:
    site.new_client()
    for issuer in (OTHER_ISSUER, "https://another.example"):
        site.trust_issuer(issuer=issuer, single_use=True)

        assert site.refusal(federated(site, iss=issuer, jti="1")) == ("", CLIENT)


def test_each_subject_of_an_issuer_may_be_a_principal_of_its_own(site: UseCaseSite) -> None:
    site.new_client()
    site.trust_issuer(per_subject=True)
    subject = federated_id(OTHER_ISSUER, "a job")
    site.revoke(ByPrincipal(principal=subject))

    proven = prove(site, federated(site))

    assert (proven.subject, proven.client.client_id) == (subject, CLIENT)
    assert set(proven.generations) == {subject}


def test_a_token_proves_no_other_client_than_the_one_that_the_request_names(site: UseCaseSite) -> None:
    site.new_client()
    site.trust_issuer(single_use=True)
    token = federated(site)

    with pytest.raises(CredentialRefusedError) as refused:
        prove(site, replace(token, client_id=PrincipalId("another")))

    assert refused.value.principal == CLIENT
    assert site.refusal(token) == ("", CLIENT), "a request that was refused has not used it up"


def test_a_disabled_client_is_not_proven(site: UseCaseSite) -> None:
    site.new_client()
    site.trust_issuer()
    site.update_client(CLIENT, disabled=True)

    assert site.refusal(federated(site)) == (DISABLED, CLIENT)


def test_a_proof_comes_with_the_generations_of_the_client_and_of_the_service(site: UseCaseSite) -> None:
    site.new_client()
    site.trust_issuer()
    for principal in (EVERYONE, CLIENT, PrincipalId("another")):
        site.revoke(ByPrincipal(principal=principal))

    proven = prove(site, federated(site))

    assert (proven.subject, set(proven.generations)) == (CLIENT, {EVERYONE, CLIENT})
