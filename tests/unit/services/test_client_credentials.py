"""The credentials of clients: the rules for each kind, and reasons that only the operator is told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import CertificateMissingError, CredentialRefusedError
from identity_service.domain.errors import TooManyAttemptsError
from identity_service.domain.ids import EVERYONE, PrincipalId
from identity_service.domain.origin import NOWHERE, Origin, PeerCertificate
from identity_service.domain.secret import Secret
from identity_service.services.authenticate import (
    ClientAssertion,
    ClientCertificate,
    ClientCredential,
    ClientSecret,
)
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.revoke import ByPrincipal
from tests.jwts import PartyKey, assertion_claims
from tests.service_site import KEY
from tests.unit.services.use_case_site import ANOTHER_CERTIFICATE, CALLER, CERTIFICATE, UseCaseSite

CLIENT = PrincipalId("reports")
ENDPOINT = "https://id.example/oauth2/token"
EDDSA, SECOND_KEY = PartyKey.make("EdDSA", "ed"), PartyKey.make(key_id="k2")
NO_KEY = "the assertion is of no client that has such a key"
WRONG_AUDIENCE = "the assertion's aud is not exactly a name of this service"
EXPIRED = "the JWT has expired"
USED = "the JWT was used before, and is for a single use"
DISABLED = "the client is disabled"


def prove(site: UseCaseSite, credential: ClientCredential, origin: Origin = NOWHERE) -> AuthenticatedClient:
    return site.use.authenticator.client(credential, origin)


# Secrets


def expire_the_secret(site: UseCaseSite) -> None:
    site.use.administration.clients.rotate_secret(CLIENT, overlap=timedelta(hours=1))
    site.replica.catch_up()
    site.pass_time(hours=1)


def disable(site: UseCaseSite) -> None:
    site.update_client(CLIENT, disabled=True)


@pytest.mark.parametrize(
    ("client_id", "secret", "happens", "reason", "named"),
    [
        (CLIENT, None, None, "", CLIENT),
        (CLIENT, "wrong", None, "the secret does not match", CLIENT),
        (CLIENT, "", None, "the secret does not match", CLIENT),
        (CLIENT, None, expire_the_secret, "the secret does not match", CLIENT),
        (CLIENT, None, disable, DISABLED, CLIENT),
        (CLIENT, "wrong", disable, "the secret does not match", CLIENT),
        ("nobody", None, None, "there is no client of this id", ""),
        ("first-party", "", None, "the secret does not match", "first-party"),
    ],
)
def test_a_client_is_proven_by_a_secret_in_force(
    site: UseCaseSite,
    client_id: str,
    secret: str | None,
    happens: Callable[[UseCaseSite], None] | None,
    reason: str,
    named: str,
) -> None:
    site.new_client()
    if happens is not None:
        happens(site)
    shown = Secret(site.secrets[CLIENT] if secret is None else secret)

    assert site.refusal(ClientSecret(client_id=PrincipalId(client_id), secret=shown)) == (reason, named)


def test_a_proof_comes_with_the_generations_of_the_client_and_of_the_service(site: UseCaseSite) -> None:
    site.new_client(certificates=CERTIFICATE.names, public_keys=(KEY.public_jwk,))
    for principal in (EVERYONE, CLIENT, PrincipalId("another")):
        site.revoke(ByPrincipal(principal=principal))
    credentials: tuple[ClientCredential, ...] = (
        assertion(site),
        ClientCertificate(certificate=CERTIFICATE),
    )

    for credential in credentials:
        proven = prove(site, credential)
        assert (proven.client.client_id, proven.subject) == (CLIENT, CLIENT)
        assert set(proven.generations) == {EVERYONE, CLIENT}


def test_twenty_wrong_secrets_of_one_client_at_one_address_are_free(site: UseCaseSite) -> None:
    site.new_client()
    site.new_client("another")
    for _ in range(20):
        with pytest.raises(CredentialRefusedError):
            prove(site, ClientSecret(client_id=CLIENT, secret=Secret("wrong")), CALLER)

    with pytest.raises(TooManyAttemptsError):
        prove(site, site.secret_of(CLIENT), CALLER)
    prove(site, site.secret_of("another"), CALLER)
    prove(site, site.secret_of(CLIENT), Origin(peer="192.0.2.99:1"))


def test_other_wrong_credentials_count_for_their_address(site: UseCaseSite) -> None:
    for _ in range(site.settings.attempts_per_peer):
        with pytest.raises(CredentialRefusedError):
            prove(site, ClientCertificate(certificate=CERTIFICATE), CALLER)

    with pytest.raises(TooManyAttemptsError):
        prove(site, ClientCertificate(certificate=CERTIFICATE), CALLER)


# Assertions


def assertion(
    site: UseCaseSite, *, key: PartyKey = KEY, header: dict[str, Any] | None = None, **options: Any
) -> ClientAssertion:
    """Return a client's assertion. `options` change its claims, or are members of the request."""
    request = {name: options.pop(name) for name in ("client_id", "token_endpoint") if name in options}
    claims = assertion_claims(CLIENT, site.clock.now(), **options)
    return ClientAssertion(jwt=Secret(key.jwt(claims, header)), **request)


HOUR = 3600
NO_KID = {"alg": "ES256", "typ": "JWT"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, ""),
        ({"client_id": CLIENT}, ""),
        ({"aud": ENDPOINT, "token_endpoint": ENDPOINT}, ""),
        ({"token_endpoint": ENDPOINT}, ""),
        ({"aud": ENDPOINT}, WRONG_AUDIENCE),
        ({"aud": "", "token_endpoint": ""}, WRONG_AUDIENCE),
        ({"exp": -9}, ""),
        ({"exp": -10}, EXPIRED),
        ({"exp": HOUR + 10}, ""),
        ({"exp": HOUR + 11}, "the assertion's exp is more than an hour in the future"),
        ({"jti": None}, "the JWT has no jti, which a single-use JWT needs"),
        ({"header": NO_KID}, ""),
        ({"key": SECOND_KEY}, NO_KEY),
        ({"key": SECOND_KEY, "header": NO_KID}, "the assertion's signature does not verify"),
        ({"key": EDDSA, "header": {"alg": "EdDSA"}}, NO_KEY),
    ],
)
def test_an_assertion_proves_a_client_if_it_is_signed_by_its_key_and_for_this_service(
    site: UseCaseSite, options: dict[str, Any], reason: str
) -> None:
    site.new_client(public_keys=(KEY.public_jwk,))

    assert site.refusal(assertion(site, **options)) == (reason, CLIENT)


@pytest.mark.parametrize(
    ("keys", "key", "header", "reason"),
    [
        ((KEY, SECOND_KEY), KEY, NO_KID, NO_KEY),
        ((KEY, SECOND_KEY), SECOND_KEY, None, ""),
        ((EDDSA, KEY), KEY, NO_KID, ""),
        ((KEY, EDDSA), EDDSA, {"alg": "EdDSA"}, ""),
    ],
    ids=["two keys", "two keys, one named", "another algorithm first", "another algorithm second"],
)
def test_an_assertion_without_a_key_id_is_checked_by_the_only_key_for_its_algorithm(
    site: UseCaseSite, keys: tuple[PartyKey, ...], key: PartyKey, header: dict[str, Any] | None, reason: str
) -> None:
    site.new_client(public_keys=tuple(each.public_jwk for each in keys))

    assert site.refusal(assertion(site, key=key, header=header)) == (reason, CLIENT)


def test_a_disabled_client_is_not_proven(site: UseCaseSite) -> None:
    site.new_client(certificates=CERTIFICATE.names, public_keys=(KEY.public_jwk,))
    disable(site)
    credentials: tuple[ClientCredential, ...] = (
        assertion(site),
        ClientCertificate(certificate=CERTIFICATE),
    )

    for credential in credentials:
        assert site.refusal(credential) == (DISABLED, CLIENT)


def test_an_assertion_works_once_until_it_has_expired(site: UseCaseSite) -> None:
    site.new_client(public_keys=(KEY.public_jwk,))
    once = assertion(site)

    with pytest.raises(CredentialRefusedError) as refused:
        prove(site, replace(once, client_id=PrincipalId("another")))
    assert refused.value.principal == CLIENT, "it is the client that signed it, not the one that is named"
    assert site.refusal(once) == ("", CLIENT), "a request that was refused has not used it up"
    assert site.refusal(once) == (USED, CLIENT)
    site.pass_time(seconds=69)
    assert site.refusal(once) == (USED, CLIENT), "it would be accepted within the leeway"
    site.pass_time(seconds=1)
    assert site.refusal(once) == (EXPIRED, CLIENT)


def test_the_ids_of_assertions_are_those_of_each_client(site: UseCaseSite) -> None:
    site.new_client(public_keys=(KEY.public_jwk,))
    site.new_client("another", public_keys=(KEY.public_jwk,))

    assert site.refusal(assertion(site, jti="1")) == ("", CLIENT)
    assert site.refusal(assertion(site, jti="1", iss="another", sub="another")) == ("", "another")


# Certificates


def certificate(*names: str) -> PeerCertificate:
    return PeerCertificate(sha256=b"z" * 32, names=frozenset(names))


def test_a_certificate_proves_the_only_client_that_has_registered_one_of_its_names(
    site: UseCaseSite,
) -> None:
    site.new_client(certificates={"dns:a.example", "dns:b.example"})
    site.new_client("another", certificates={"dns:c.example"})
    nothing = ("the certificate names no client, or several", "")

    found = [
        site.refusal(ClientCertificate(certificate=replace(certificate(*names), sha256=bytes([number]) * 32)))
        for number, names in enumerate(
            [
                ("dns:a.example",),
                ("dns:a.example", "dns:b.example", "dns:x.example"),
                ("dns:c.example",),
                ("dns:a.example", "dns:c.example"),
                ("dns:x.example",),
            ]
        )
    ]

    assert found == [("", CLIENT), ("", CLIENT), ("", "another"), nothing, nothing]


def test_only_a_connection_without_a_certificate_is_told_so(site: UseCaseSite) -> None:
    with pytest.raises(CertificateMissingError, match="no client certificate"):
        prove(site, ClientCertificate(certificate=None))
    with pytest.raises(CredentialRefusedError, match=f"^{CredentialRefusedError.message}$"):
        prove(site, ClientCertificate(certificate=ANOTHER_CERTIFICATE))
