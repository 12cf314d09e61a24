"""Access tokens: the values that are read from a valid token, and the reason why another is rejected."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import Link, PrincipalId, SessionId
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.log import Generation
from identity_service.domain.tokens import AccessToken, Actor, Rejected
from identity_service.jose import keys
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.keys import ALGORITHMS
from tests.high_s import twin
from tests.unit.jose.conftest import ISSUER, Ring, access_token
from tests.unit.jose.forging import Forge, Generated, b64

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.fixture(scope="module")
def forge(generated: Generated) -> Forge:
    return Forge(generated)


def reason(codec: AccessTokenCodec, text: str) -> str:
    """Return the reason why the token is rejected; "" if it is valid.

    The detail of the rejection must contain no part of the token.
    """
    found = codec.read(text)
    if isinstance(found, AccessToken):
        return ""
    assert all(part not in found.detail for part in text.split(".") if len(part) > 8)
    return found.reason.value


def chain_of(length: int) -> dict[str, Any]:
    """Return a claim `act` with this number of nested actors."""
    inner = {"act": chain_of(length - 1)} if length > 1 else {}
    return {"sub": f"a{length}"} | inner


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_token_is_read_as_it_was(generated: Generated, algorithm: str) -> None:
    codec = AccessTokenCodec(Ring((generated[algorithm],)), IssuerNames(ISSUER))
    token = access_token(
        session_id=SessionId("s1"),
        auth_time=datetime(2026, 1, 1, tzinfo=UTC),
        not_before=datetime(2026, 1, 2, tzinfo=UTC),
        actors=(Actor(subject=PrincipalId("a"), client_id=PrincipalId("c")), Actor(subject=PrincipalId("b"))),
        generations={PrincipalId("*"): Generation(number=3, link=Link("x"))},
        may_act=Actor(subject=PrincipalId("d"), client_id=PrincipalId("e")),
        certificate_sha256=b"c" * 32,
        key_sha256=b"k" * 32,
        claims={"tenant": "blue", "deep": {"er": [1, 2.5, None, True]}},
    )

    read = codec.read(codec.sign(token))

    assert isinstance(read, AccessToken)
    assert read.key_id == generated[algorithm].key_id
    expected = {name: getattr(token, name) for name in AccessToken.__slots__ if name != "key_id"}
    assert {name: getattr(read, name) for name in expected} == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    claims=st.dictionaries(
        st.text(min_size=1, max_size=10).filter(lambda name: name not in {"iss", "sub", "aud", "exp"}),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        max_size=4,
    ),
    issue_time=TIMES,
)
def test_extra_claims_of_any_kind_come_back(
    codec: AccessTokenCodec, claims: dict[str, Any], issue_time: datetime
) -> None:
    known = {"iat", "jti", "client_id", "scope", "nbf", "sid", "auth_time", "act", "may_act", "cnf", "gen"}
    extra = {name: value for name, value in claims.items() if name not in known}
    whole = issue_time.replace(microsecond=0)

    read = codec.read(
        codec.sign(access_token(claims=extra, issue_time=whole, expire_time=whole + timedelta(1)))
    )

    assert isinstance(read, AccessToken)
    assert (read.claims, read.issue_time) == (extra, whole)


def test_an_extra_claim_cannot_replace_one_of_the_service(codec: AccessTokenCodec) -> None:
    read = codec.read(codec.sign(access_token(claims={"sub": "root", "exp": 1, "scope": "admin"})))

    assert isinstance(read, AccessToken)
    assert (read.subject, read.scopes) == ("reports", ("read", "write"))


def test_a_token_over_8_kib_is_neither_signed_nor_read(codec: AccessTokenCodec) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        codec.sign(access_token(claims={"big": "x" * 8000}))

    assert [v.field for v in refused.value.violations] == ["claims"]
    assert reason(codec, "x" * 8193) == "MALFORMED"


def test_the_forge_makes_good_tokens(codec: AccessTokenCodec, forge: Forge) -> None:
    """Without this check, the tests below could pass because of a fault in the forge."""
    assert reason(codec, forge.with_header()) == ""
    assert reason(codec, forge.with_header(typ="application/AT+JWT")) == ""
    assert reason(codec, forge.with_claims(aud="api")) == ""
    assert reason(codec, forge.with_claims(exp=1_800_000_000.5)) == ""
    assert reason(codec, forge.with_claims(act=chain_of(8))) == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"alg": None}, "MALFORMED"),
        ({"alg": 7}, "MALFORMED"),
        ({"alg": ["ES256"]}, "MALFORMED"),
        ({"alg": "ES512"}, "ALGORITHM_NOT_ALLOWED"),
        ({"alg": "es256"}, "ALGORITHM_NOT_ALLOWED"),
        ({"alg": "EdDSA"}, "ALGORITHM_NOT_ALLOWED"),
        ({"alg": "HS256"}, "ALGORITHM_NOT_ALLOWED"),
        ({"typ": None}, "WRONG_TYPE"),
        ({"typ": "JWT"}, "WRONG_TYPE"),
        ({"typ": "id_token+jwt"}, "WRONG_TYPE"),
        ({"typ": "logout+jwt"}, "WRONG_TYPE"),
        ({"typ": 1}, "WRONG_TYPE"),
        ({"crit": ["exp"]}, "MALFORMED"),
        ({"crit": []}, "MALFORMED"),
        ({"b64": False}, "MALFORMED"),
        ({"kid": None}, "MALFORMED"),
        ({"kid": 7}, "MALFORMED"),
        ({"kid": ""}, "MALFORMED"),
        ({"kid": "k" * 257}, "MALFORMED"),
        ({"kid": "../../../../dev/null"}, "UNKNOWN_KEY"),
        ({"kid": "' OR 1=1 --"}, "UNKNOWN_KEY"),
        ({"kid": "a\x00b"}, "UNKNOWN_KEY"),
        ({"kid": "https://evil.example/jwks.json"}, "UNKNOWN_KEY"),
    ],
)
def test_a_header_that_is_not_ours_is_rejected(
    codec: AccessTokenCodec, forge: Forge, changes: dict[str, Any], expected: str
) -> None:
    assert reason(codec, forge.with_header(**changes)) == expected


@pytest.mark.parametrize("spelling", ["none", "None", "NONE", "nOnE", " none", "none ", "", "null"])
def test_the_algorithm_none_is_refused_in_any_spelling(
    codec: AccessTokenCodec, forge: Forge, spelling: str
) -> None:
    unsigned = f"{b64(forge.header | {'alg': spelling})}.{b64(forge.claims)}."

    assert reason(codec, unsigned) == "ALGORITHM_NOT_ALLOWED"
    assert reason(codec, forge.with_header(alg=spelling)) == "ALGORITHM_NOT_ALLOWED"


def test_headers_that_bring_a_key_are_not_followed(codec: AccessTokenCodec, forge: Forge) -> None:
    """If `kid` names a key of the service, that key verifies the token, whatever other key the header has."""
    stranger = keys.generate("ES256")
    brought = {
        "jwk": json.loads(stranger.public_jwk or ""),
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/cert.pem",
        "x5c": ["MIIB"],
    }
    theirs = Forge({"ES256": stranger})
    message = f"{b64(forge.header | brought)}.{b64(forge.claims)}"

    assert reason(codec, forge.with_header(**brought)) == ""
    assert reason(codec, f"{message}.{b64(theirs.key.sign(message.encode()))}") == "BAD_SIGNATURE"
    assert reason(codec, theirs.with_header(**brought)) == "UNKNOWN_KEY"


def test_an_rsa_public_key_is_no_hmac_secret(codec: AccessTokenCodec, generated: Generated) -> None:
    """An attacker could sign with HS256 and use the public RSA key, in any of its formats, as the secret."""
    public = json.loads(generated["RS256"].public_jwk or "")
    loaded: Any = jwt.PyJWK(public).key
    secrets = [
        loaded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        (generated["RS256"].public_jwk or "").encode(),
        base64.urlsafe_b64decode(public["n"] + "=="),
    ]
    forge = Forge(generated, "RS256")
    message = f"{b64(forge.header | {'alg': 'HS256'})}.{b64(forge.claims)}"

    for secret in secrets:
        signature = hmac.new(secret, message.encode(), hashlib.sha256).digest()
        assert reason(codec, f"{message}.{b64(signature)}") == "ALGORITHM_NOT_ALLOWED"
    assert reason(codec, forge.with_header()) == ""


@pytest.mark.parametrize("missing", ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"])
def test_every_required_claim_must_be_there(codec: AccessTokenCodec, forge: Forge, missing: str) -> None:
    assert reason(codec, forge.with_claims(**{missing: None})) == "MALFORMED"


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": "1800000000"},
        {"exp": True},
        {"exp": -1},
        {"exp": 10**23},
        {"exp": 1e23},
        {"exp": 253402300800},
        {"iat": "now"},
        {"nbf": [1]},
        {"auth_time": {}},
        {"aud": []},
        {"aud": [1]},
        {"aud": {"a": 1}},
        {"sub": ""},
        {"sub": 7},
        {"jti": 7},
        {"iss": ["x"]},
        {"client_id": False},
        {"scope": ["read"]},
        {"sid": 1},
        {"act": "x"},
        {"act": {}},
        {"act": {"sub": 1}},
        {"act": chain_of(9)},
        {"may_act": "x"},
        {"may_act": {"client_id": "x"}},
        {"may_act": {"sub": "x", "iss": "https://other.example"}},
        {"may_act": {"sub": "x", "act": {"sub": "y"}}},
        {"gen": []},
        {"gen": {"a": 1}},
        {"gen": {"a": "x"}},
        {"cnf": {}},
        {"cnf": {"jkt": "x"}},
        {"cnf": {"x5t#S256": "AAAA"}},
        {"cnf": {"x5t#S256": "A" * 43, "jkt": "x"}},
        {"cnf": {"x5t#S256": "A" * 43, "jkt": "AAAA"}},
        {"cnf": {"jkt": "A" * 43, "kid": "x"}},
        {"cnf": ["jkt"]},
    ],
    ids=repr,
)
def test_a_claim_of_the_wrong_kind_is_malformed(
    codec: AccessTokenCodec, forge: Forge, changes: dict[str, Any]
) -> None:
    assert reason(codec, forge.with_claims(**changes)) == "MALFORMED"


def test_another_issuer_is_not_trusted(codec: AccessTokenCodec, forge: Forge) -> None:
    assert reason(codec, forge.with_claims(iss="https://other.example")) == "UNTRUSTED_ISSUER"


def test_a_claim_or_header_that_stands_twice_is_malformed(codec: AccessTokenCodec, forge: Forge) -> None:
    claims, header = json.dumps(forge.claims), json.dumps(forge.header)

    assert reason(codec, forge.sign(forge.header, claims[:-1] + ', "sub": "root"}')) == "MALFORMED"
    assert reason(codec, forge.sign(header[:-1] + ', "alg": "ES256"}', claims)) == "MALFORMED"
    assert reason(codec, forge.sign(header, claims)) == ""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t + "=",
        lambda t: t + "==",
        lambda t: t + ".",
        lambda t: "." + t,
        lambda t: t + " ",
        lambda t: " " + t,
        lambda t: t + "\n",
        lambda t: t.replace(".", "..", 1),
        lambda t: t.replace(".", " .", 1),
        lambda t: t.replace(".", "=.", 1),
        lambda t: t.rpartition(".")[0],
        lambda t: "",
        lambda t: "..",
    ],
)
def test_another_spelling_of_a_good_token_is_malformed(
    codec: AccessTokenCodec, forge: Forge, spoil: Any
) -> None:
    assert reason(codec, spoil(forge.with_header())) == "MALFORMED"


def test_pyjwt_by_itself_accepts_malformed_tokens_that_this_module_refuses(
    generated: Generated, codec: AccessTokenCodec, forge: Forge
) -> None:
    """If a case fails, PyJWT has become stricter: read its release notes and remove the case."""
    key = jwt.PyJWK(json.loads(generated["ES256"].public_jwk or ""))
    claims = json.dumps(forge.claims)
    accepted = [
        forge.with_header() + "==",
        forge.sign(forge.header, claims[:-1] + ', "sub": "root"}'),
        forge.with_claims(exp="1800000000"),
        forge.with_claims(exp=10**23),
    ]

    for text in accepted:
        assert jwt.decode(text, key, algorithms=["ES256"], audience="api")
        assert reason(codec, text) == "MALFORMED"


def test_a_repeated_token_is_refused_if_keys_that_have_come_since_make_it_too_long(
    generated: Generated,
) -> None:
    """Verify would reject the longer token, and its client could not know why."""
    before, after = (
        AccessTokenCodec(Ring((generated[algorithm],)), IssuerNames(ISSUER))
        for algorithm in ("ES256", "ML-DSA-65")
    )
    token = access_token(claims={"long": "x" * 4000})
    values: dict[str, Any] = {
        name: getattr(token, name) for name in ("token_id", "issue_time", "expire_time")
    }
    fixed = before.fixed_claims(token)
    assert reason(before, before.sign_repeated(fixed, **values)) == ""

    with pytest.raises(InvalidRequestError):
        after.sign_repeated(fixed, **values)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_only_es256_and_eddsa_are_quick(generated: Generated, algorithm: str) -> None:
    codec = AccessTokenCodec(Ring((generated[algorithm],)), IssuerNames(ISSUER))

    assert codec.is_quick(codec.sign(access_token())) == (algorithm in ("ES256", "EdDSA"))


@pytest.mark.parametrize(
    ("text", "is_quick"),
    [
        ("", True),
        ("a.b.c", True),
        ("a.b.c.d.e", False),
        ("x" * 1501, False),
        ("x" * 9000, True),
        (".....", True),
    ],
)
def test_a_text_that_is_rejected_at_once_is_quick_and_a_long_one_or_one_to_decrypt_is_not(
    codec: AccessTokenCodec, text: str, *, is_quick: bool
) -> None:
    assert codec.is_quick(text) == is_quick


def test_an_encrypted_token_is_undecryptable(codec: AccessTokenCodec) -> None:
    assert reason(codec, "a.b.c.d.e") == "UNDECRYPTABLE"


def test_the_twin_of_an_es256_signature_is_good(codec: AccessTokenCodec) -> None:
    token = codec.sign(access_token())

    assert twin(token) != token
    assert twin(twin(token)) == token
    assert reason(codec, twin(token)) == ""


ALPHABET = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\x00é{}")


MUTATIONS = st.tuples(
    st.integers(-2048, 2047), st.sampled_from(["insert", "delete", "replace", "swap", "cut"]), ALPHABET
)
"""A position, counted from either end; the kind of mutation; and a character to insert or put there."""


@settings(max_examples=3000, deadline=None)
@given(mutations=st.lists(MUTATIONS, min_size=1, max_size=4))
def test_no_mutation_of_a_valid_token_is_accepted_but_its_twin(
    codec: AccessTokenCodec, original: str, mutations: list[tuple[int, str, str]]
) -> None:
    """After up to four insertions, deletions, replacements, swaps or cuts, no token is accepted.

    The other valid form of the signature is the only exception; none raises an unexpected exception.
    """
    text = original
    for place, kind, character in mutations:
        at = place % max(1, len(text))
        match kind:
            case "insert":
                text = text[:at] + character + text[at:]
            case "delete":
                text = text[:at] + text[at + 1 :]
            case "replace":
                text = text[:at] + character + text[at + 1 :]
            case "swap":
                text = text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]
            case _:
                text = text[:at]
    found = codec.read(text)

    assert isinstance(found, Rejected) or text in (original, twin(original))


@pytest.fixture(scope="module")
def original(codec: AccessTokenCodec) -> str:
    return codec.sign(access_token(claims={"tenant": "blue"}))


def test_every_single_character_of_a_token_counts(codec: AccessTokenCodec, original: str) -> None:
    """Each character is replaced by several others: none of the 10,000 resulting tokens is valid."""
    accepted = [
        at
        for at in range(len(original))
        for other in "AZaz09-_.=QgwB\x00ü"
        if other != original[at]
        and not isinstance(codec.read(original[:at] + other + original[at + 1 :]), Rejected)
    ]

    assert len(original) * 16 > 6_000
    assert accepted == []
