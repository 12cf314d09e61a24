"""Reading assertions: one spelling, exact types, and a key that the token cannot choose."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.secret import Secret
from identity_service.jose.assertions import StrictAssertions, type_of
from identity_service.jose.keys import load
from tests.jwts import PartyKey, assertion_claims, encode

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = PartyKey.make()
CLAIMS = assertion_claims("reports", NOW, nbf=-1)
TEXT = json.dumps(CLAIMS)
READER = StrictAssertions()


@pytest.fixture
def reader() -> StrictAssertions:
    return READER


def test_an_assertion_is_read_with_all_its_claims(reader: StrictAssertions) -> None:
    found = reader.read(Secret(KEY.jwt(CLAIMS, typ="application/JWT")))
    said = found.prove(reader.open_key(KEY.public_jwk))

    assert (found.algorithm, found.key_id, said.type) == ("ES256", "k1", "jwt")
    assert (said.issuer, said.subject, said.audience) == ("reports", "reports", "identity-service")
    assert (said.issue_time, said.not_before) == (NOW, NOW - timedelta(seconds=1))
    assert (said.expire_time, said.token_id) == (NOW + timedelta(minutes=1), CLAIMS["jti"])
    assert said.claims == CLAIMS


def test_a_list_of_audiences_stays_a_list(reader: StrictAssertions) -> None:
    said = reader.read(Secret(KEY.jwt(CLAIMS | {"aud": ["identity-service"]}))).assertion

    assert said.audience == ("identity-service",)


def without(name: str) -> dict[str, Any]:
    return {n: v for n, v in CLAIMS.items() if n != name}


@pytest.mark.parametrize(
    "claims",
    [
        *map(without, ("iss", "sub", "aud", "exp")),
        *({**CLAIMS, name: 7} for name in ("iss", "sub", "aud", "jti")),
        *({**CLAIMS, name: ""} for name in ("iss", "sub", "jti")),
        *({**CLAIMS, name: "x" * 1025} for name in ("iss", "sub", "jti")),
        *({**CLAIMS, name: "a\x00b"} for name in ("iss", "sub", "jti")),
        *({**CLAIMS, name: "a\ud800b"} for name in ("iss", "sub", "jti")),
        *({**CLAIMS, name: str(CLAIMS[name])} for name in ("exp", "iat", "nbf")),
        *({**CLAIMS, name: True} for name in ("exp", "iat", "nbf")),
        *({**CLAIMS, name: None} for name in ("exp", "iat", "nbf")),
        *({**CLAIMS, name: -1} for name in ("exp", "iat", "nbf")),
        {**CLAIMS, "exp": 2**63},
        {**CLAIMS, "exp": 253402300799},  # the end of the year 9999, to which no leeway can be added
        {**CLAIMS, "aud": []},
        {**CLAIMS, "aud": ["a", 7]},
        TEXT.replace('"exp"', '"exp": 1, "exp"'),
        TEXT.replace(str(CLAIMS["exp"]), "1e999"),
        TEXT.replace(str(CLAIMS["exp"]), "NaN"),
        "[]",
        "null",
        b"\xff",
        "[" * 5000,
    ],
    ids=lambda claims: str(claims)[:60],
)
def test_claims_that_are_not_exactly_right_are_refused(reader: StrictAssertions, claims: Any) -> None:
    with pytest.raises(CredentialRefusedError):
        reader.read(Secret(KEY.jwt(claims)))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": "k1"},
        {"alg": "None", "kid": "k1"},
        {"alg": "nOnE", "kid": "k1"},
        {"alg": "", "kid": "k1"},
        {"alg": "HS256", "kid": "k1"},
        {"alg": "es256", "kid": "k1"},
        {"alg": ["ES256"], "kid": "k1"},
        {"kid": "k1"},
        {"alg": "ES256", "kid": ""},
        {"alg": "ES256", "kid": 7},
        {"alg": "ES256", "kid": "k" * 257},
        {"alg": "ES256", "kid": "k1", "typ": 7},
        {"alg": "ES256", "kid": "k1", "crit": ["exp"]},
        {"alg": "ES256", "kid": "k1", "crit": []},
        {"alg": "ES256", "kid": "k1", "b64": False},
        '{"alg": "none", "alg": "ES256", "kid": "k1"}',
        "[]",
    ],
    ids=str,
)
def test_headers_that_are_not_exactly_right_are_refused(reader: StrictAssertions, header: Any) -> None:
    with pytest.raises(CredentialRefusedError):
        reader.read(Secret(KEY.jwt(CLAIMS, header)))


def test_a_header_may_have_no_kid(reader: StrictAssertions) -> None:
    assert reader.read(Secret(KEY.jwt(CLAIMS, {"alg": "ES256"}))).key_id == ""


def test_only_one_spelling_of_a_token_is_read(reader: StrictAssertions) -> None:
    good = KEY.jwt(CLAIMS)
    header, claims, signature = good.split(".")
    tail = signature[-1]
    neighbour = chr(ord(tail) + 1)
    spellings = [
        f"{good}=",
        f"{good}==",
        f" {good}",
        f"{good}\n",
        f"{good}.",
        f"{header}.{claims}",
        f"{header}..{signature}",
        f"{header}.{claims}.",
        f"{header}.{claims}.{signature[:-1]}{neighbour}",
        f"{header}.{claims}.{signature}.a.b",
        f"{header}.{claims}.{signature[:-2]}é",
        good.replace(".", "\uff0e"),
        "",
        "...",
    ]

    reader.read(Secret(good))
    key = reader.open_key(KEY.public_jwk)
    for spelling in spellings:
        with pytest.raises(CredentialRefusedError):
            reader.read(Secret(spelling)).prove(key)


def test_a_token_is_at_most_8_kib_long(reader: StrictAssertions) -> None:
    room = 8192 - len(KEY.jwt({**CLAIMS, "x": ""}))

    reader.read(Secret(KEY.jwt({**CLAIMS, "x": "y" * (room * 3 // 4 - 2)})))
    with pytest.raises(CredentialRefusedError, match="refused") as refused:
        reader.read(Secret(KEY.jwt({**CLAIMS, "x": "y" * room})))
    assert "8 KiB" in refused.value.why


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c", "x5t#S256"])
def test_a_token_cannot_bring_its_own_key(reader: StrictAssertions, member: str) -> None:
    thief = PartyKey.make()
    values: dict[str, Any] = {"jwk": thief.public(), "x5c": ["AAAA"]}
    brought: dict[str, Any] = {member: values.get(member, "https://thief.example/keys")}

    forged = reader.read(Secret(thief.jwt(CLAIMS, **brought)))

    with pytest.raises(CredentialRefusedError) as refused:
        forged.prove(reader.open_key(KEY.public_jwk))
    assert refused.value.why == "the assertion's signature does not verify"


def test_the_algorithm_is_that_of_the_key(reader: StrictAssertions) -> None:
    """With one RSA key, a PS256 signature is not accepted as RS256 (RFC 8725, section 3.1)."""
    rsa = PartyKey.make("RS256", "r1")
    as_ps256 = PartyKey(key_id="r1", algorithm="PS256", given=rsa.private_jwk.replace("RS256", "PS256"))

    reader.read(Secret(rsa.jwt(CLAIMS))).prove(load(rsa.public_jwk, "RS256", private=False))
    with pytest.raises(CredentialRefusedError) as refused:
        reader.read(Secret(as_ps256.jwt(CLAIMS))).prove(load(rsa.public_jwk, "RS256", private=False))
    assert "another algorithm" in refused.value.why


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "EdDSA", "RS256", "PS256"])
def test_time_can_be_spent_on_an_assertion_of_an_unknown_client(
    reader: StrictAssertions, algorithm: str
) -> None:
    unknown = reader.read(Secret(PartyKey.make(algorithm).jwt(CLAIMS)))

    reader.spend(unknown)


def test_the_text_for_the_operator_contains_no_part_of_the_token(reader: StrictAssertions) -> None:
    for claims in (
        {**CLAIMS, "exp": "s3cr3t-value"},
        '{"s3cr3t-value": 1, "s3cr3t-value": 1}',
        "s3cr3t-value",
    ):
        with pytest.raises(CredentialRefusedError) as refused:
            reader.read(Secret(KEY.jwt(claims)))
        assert "s3cr3t" not in refused.value.why
    assert "s3cr3t" not in repr(reader.read(Secret(KEY.jwt({**CLAIMS, "x": "s3cr3t-value"}))))
    assert encode("x") not in repr(reader)


@pytest.mark.parametrize(
    ("header", "type_"),
    [
        ({"typ": "Application/OAuth-ID-JAG+jwt"}, "oauth-id-jag+jwt"),
        ({"typ": "JWT", "alg": "none"}, "jwt"),
        ({}, ""),
        ({"typ": 1}, ""),
        ("[]", ""),
        ("{", ""),
    ],
)
def test_the_type_that_a_token_claims_can_be_read_alone(header: Any, type_: str) -> None:
    assert type_of(Secret(KEY.jwt(CLAIMS, header))) == type_


@given(st.text() | st.binary().map(lambda data: encode(data.decode("latin-1"))))
def test_a_text_that_is_no_token_has_no_type(text: str) -> None:
    assert type_of(Secret(text)) == ""
    assert type_of(Secret(f"{text}..")) == ""


@given(st.text())
def test_the_type_that_a_token_claims_is_the_one_that_it_is_read_with(typ: str) -> None:
    jwt = Secret(KEY.jwt(CLAIMS, typ=typ))

    assert type_of(jwt) == READER.read(jwt).assertion.type
