"""Access tokens as values: which principals' raised generations revoke a token."""

from identity_service.domain.ids import EVERYONE, KeyId, Link, PrincipalId, key_principal
from identity_service.domain.log import Generation
from identity_service.domain.tokens import Actor
from tests.unit.domain.samples import a_token


def test_a_token_is_revoked_with_each_principal_that_it_names() -> None:
    token = a_token(
        actors=(
            Actor(subject=PrincipalId("gateway"), client_id=PrincipalId("edge")),
            Actor(subject=PrincipalId("x")),
        ),
        generations={PrincipalId("u_before"): Generation(number=1, link=Link("l"))},
        key_id=KeyId("k"),
    )

    named = {"u_alice", "shop", "gateway", "edge", "x", "u_before"}
    assert token.principals == {EVERYONE, key_principal(KeyId("k")), *map(PrincipalId, named)}


def test_a_token_that_is_not_signed_yet_names_no_key() -> None:
    assert a_token().principals == {EVERYONE, "u_alice", "shop"}
