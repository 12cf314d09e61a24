"""The headers that ext_authz adds for the service behind the gateway and for its client are well-formed."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest

from identity_service.domain.ids import PrincipalId, TokenId
from identity_service.domain.tokens import AccessToken, Actor, Rejected, RejectionReason
from identity_service.grpc_api.ext_authz.answers import Denial, allowed, denied, from_rejected

TOKEN: Final = AccessToken(
    issuer="i",
    subject=PrincipalId("s"),
    audiences=("api",),
    client_id=PrincipalId("c"),
    scopes=(),
    token_id=TokenId("t"),
    issue_time=datetime(2030, 1, 1, tzinfo=UTC),
    expire_time=datetime(2030, 1, 2, tzinfo=UTC),
)


def upstream_headers(token: AccessToken) -> dict[str, str]:
    return {each.header.key: each.header.value for each in allowed(token, frozenset()).ok_response.headers}


@pytest.mark.parametrize(
    ("subject", "written"),
    [
        ("zoë", "zo%C3%AB"),
        ("100%", "100%25"),
        ("a,b", "a%2Cb"),
        ("a b", "a%20b"),
        ("a\r\nx-admin: 1", "a%0D%0Ax-admin:%201"),
        ("\x00\x7f", "%00%7F"),
        ("\ud800", "%ED%A0%80"),
        (
            "https://id.example/#[x]?y=z&{|}~!$'()*;\"<>\\^`@",
            "https://id.example/#[x]?y=z&{|}~!$'()*;\"<>\\^`@",
        ),
    ],
)
def test_a_name_is_written_in_visible_ascii_and_no_two_names_alike(subject: str, written: str) -> None:
    headers = upstream_headers(replace(TOKEN, subject=PrincipalId(subject), client_id=PrincipalId(subject)))

    assert headers["x-identity-subject"] == headers["x-identity-client"] == written


def test_a_comma_in_the_name_of_an_actor_makes_it_no_two_actors() -> None:
    actors = (Actor(subject=PrincipalId("a,b")), Actor(subject=PrincipalId("c")))

    assert upstream_headers(replace(TOKEN, actors=actors))["x-identity-actors"] == "a%2Cb,c"


def test_a_challenge_holds_only_characters_that_rfc_6750_allows() -> None:
    response = denied(Denial(error="invalid_token", description='a "quoted" \\ word\r\nx: ü'))

    (header,) = response.denied_response.headers
    assert header.header.value == 'Bearer error="invalid_token", error_description="a ?quoted? ? word??x: ?"'


@pytest.mark.parametrize("reason", RejectionReason)
def test_only_a_missing_scope_is_forbidden(reason: RejectionReason) -> None:
    denial = from_rejected(Rejected(reason=reason, detail="d"), ("read",))

    lacks_scope = reason is RejectionReason.INSUFFICIENT_SCOPE
    assert denial.forbidden == lacks_scope
    assert denial.error == ("insufficient_scope" if lacks_scope else "invalid_token")
    assert denial.scopes == (("read",) if lacks_scope else ())
