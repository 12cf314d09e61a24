"""Encrypted tokens: whose key a token is encrypted to, if it is encrypted at all."""

from typing import Any

import pytest

from identity_service.domain.errors import (
    EncryptionNotPossibleError,
)
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import PrincipalId, key_principal
from identity_service.domain.keys import KeyPurpose
from identity_service.domain.log import NEVER_RAISED
from identity_service.domain.principals import Client
from identity_service.domain.tokens import AccessToken, TokenEncryption
from identity_service.jose.encryption_keys import generate_service_key
from tests.unit.services.use_case_site import UseCaseSite


@pytest.mark.parametrize("by", ["client", "user"])
def test_a_token_for_the_service_alone_names_the_key_that_can_open_it(site: UseCaseSite, by: str) -> None:
    site.new_client()
    site.new_app()
    site.new_user()
    ask = site.client_token if by == "client" else site.sign_in

    tokens = ask(encryption=TokenEncryption.SERVICE)

    found = site.read(tokens)
    assert isinstance(found, AccessToken)
    key = next(iter(site.key_states(KeyPurpose.ENCRYPT)))
    assert found.generations == {key_principal(key): NEVER_RAISED}
    assert tokens.access_token.count(".") == 4
    if by == "user":
        assert site.session(tokens).encryption is TokenEncryption.SERVICE


@pytest.mark.parametrize("by", ["client", "user"])
def test_a_token_for_an_audience_can_only_be_opened_by_it(site: UseCaseSite, by: str) -> None:
    site.new_client("api", encryption_key=generate_service_key().public_jwk)
    site.new_client()
    site.new_app()
    site.new_user()
    ask = site.client_token if by == "client" else site.sign_in

    tokens = ask(encryption=TokenEncryption.AUDIENCE)

    assert site.reason(tokens) == "UNDECRYPTABLE"


API: dict[str, Any] = {"encryption_key": generate_service_key().public_jwk}


@pytest.mark.parametrize(
    ("api", "audiences"),
    [
        (None, ("api",)),
        ({}, ("api",)),
        (API | {"disabled": True}, ("api",)),
        (API, ("api", "web")),
    ],
    ids=["no client", "no key", "disabled", "two audiences"],
)
def test_a_token_is_encrypted_for_one_audience_with_a_key_or_not_issued(
    site: UseCaseSite, api: dict[str, Any] | None, audiences: tuple[str, ...]
) -> None:
    site.new_client(audiences={"api", "web"})
    if api is not None:
        site.new_client("api", **api)

    with pytest.raises(EncryptionNotPossibleError) as refused:
        site.client_token(encryption=TokenEncryption.AUDIENCE, grant=GrantRequest(audiences=audiences))

    assert [violation.field for violation in refused.value.violations] == ["encryption"]
    assert not site.audited("token_issued")


def test_a_key_that_a_newer_rule_refuses_is_told_apart_from_none(site: UseCaseSite) -> None:
    site.new_client()
    key = generate_service_key().public_jwk or ""
    weak = Client(client_id=PrincipalId("api"), encryption_key=key.replace("ECDH-ES+A256KW", "RSA1_5"))
    site.store.records.create(weak)
    site.replica.catch_up()

    with pytest.raises(EncryptionNotPossibleError, match="no longer accepted"):
        site.client_token(encryption=TokenEncryption.AUDIENCE)
