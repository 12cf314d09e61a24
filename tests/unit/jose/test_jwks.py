"""Key sets of trusted issuers: which keys are used, and which sets are refused as a whole."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.jose.jwks import MAX_SET_BYTES, MAX_SET_KEYS, open_public_key, read_key_set
from identity_shared.strict import decode_base64url
from tests.jwts import PartyKey, key_set

KEY = PartyKey.make("ES256", "k1")
RSA = PartyKey.make("RS256", "r1")


def read(*jwks: Any, algorithms: tuple[str, ...] = ISSUER_ALGORITHMS) -> dict[str, str]:
    """Return the algorithms of the keys that are used."""
    found = read_key_set(key_set(*jwks).encode(), algorithms).keys
    return {key_id: key.algorithm for key_id, key in found.items()}


def unused(*jwks: Any) -> list[str]:
    """Return the reasons why the other keys are not used."""
    return list(read_key_set(key_set(*jwks).encode(), ISSUER_ALGORITHMS).unused)


@pytest.mark.parametrize("algorithm", ISSUER_ALGORITHMS)
def test_a_key_verifies_signatures_of_its_private_part(algorithm: str) -> None:
    key = PartyKey.make(algorithm, "k1")
    header, claims, signature = key.jwt({"sub": "x"}).split(".")

    found = read_key_set(key_set(key.public()).encode(), ISSUER_ALGORITHMS).keys["k1"]

    assert found.verify(f"{header}.{claims}".encode(), decode_base64url(signature))
    assert not found.verify(f"{header}.{claims}x".encode(), decode_base64url(signature))


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"use": "x509-svid"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"alg": "ES384"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": "RSA-OAEP"},
        {"alg": 7},
        {"kid": None},
        {"kid": ""},
        {"kid": 7},
        {"kid": "k" * 257},
        {"kty": "oct", "k": "c2VjcmV0" * 8},
        {"crv": "secp256k1"},
        {"x": "AAAA"},
        {"x": None},
        {"d": "c2VjcmV0"},
    ],
    ids=str,
)
def test_a_key_for_anything_else_is_passed_over(changes: dict[str, object]) -> None:
    """RFC 7517, section 5, says to ignore them; a private key that is published proves nothing either."""
    other = PartyKey.make("ES256", "k2")

    assert read(KEY.public(**changes), other.public()) == {"k2": "ES256"}


def test_a_key_whose_private_part_was_published_proves_nothing() -> None:
    assert read(json.loads(KEY.private_jwk) | {"kid": "k1"}, RSA.public()) == {"r1": "RS256"}


def test_a_symmetric_key_is_never_taken() -> None:
    assert read({"kty": "oct", "k": "c" * 43, "kid": "k1", "alg": "HS256"}, algorithms=("HS256",)) == {}


def test_an_rsa_key_needs_2048_bits() -> None:
    weak = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)  # noqa: S505  # too short

    assert read({**weak, "kid": "weak"}, RSA.public()) == {"r1": "RS256"}


def test_the_word_that_spiffe_has_for_signatures_is_understood() -> None:
    assert read(KEY.public(use="jwt-svid", alg=None)) == {"k1": "ES256"}


def test_x509_authorities_in_a_spiffe_bundle_are_not_reported_as_faulty() -> None:
    """SPIFFE Trust Domain and Bundle, section 4.2, requires no `kid` for such keys."""
    certificates = KEY.public(use="x509-svid", alg=None, kid=None, x5c=["MIIB"])

    assert unused(certificates, RSA.public()) == ["keys[0]: for X.509-SVIDs, not for tokens"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the key set is empty"),
        (b" \n", "the key set is empty"),
        (b'{"keys": [{"kty": "EC", "kid": "k', "ends in the middle"),
        (b'{"keys": [{"kty": "EC"},\n', "ends in the middle"),
        (b"<html>no keys</html>", "is not JSON: Expecting value"),
    ],
)
def test_a_truncated_set_is_distinguished_from_text_that_is_no_json(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_key_set(data, ISSUER_ALGORITHMS)


def test_a_key_without_alg_is_for_the_first_algorithm_that_it_can_be_for() -> None:
    bare = RSA.public(alg=None)

    assert read(bare) == {"r1": "RS256"}
    assert read(bare, algorithms=("ES256", "PS256", "RS256")) == {"r1": "PS256"}
    assert read(bare, algorithms=("ES256",)) == {}


def test_a_key_of_an_algorithm_that_is_not_accepted_is_passed_over() -> None:
    assert read(KEY.public(), RSA.public(), algorithms=("RS256",)) == {"r1": "RS256"}


def test_two_keys_of_one_id_are_both_left_out_and_the_others_count() -> None:
    other, third = PartyKey.make("ES256", "k1").public(), PartyKey.make("ES256", "k1").public()

    assert read(KEY.public(), RSA.public(), other, third) == {"r1": "RS256"}
    assert unused(KEY.public(), RSA.public(), other, third) == [
        "k1: several keys have this `kid`; the issuer must give each its own"
    ]


def test_a_key_for_two_algorithms_under_one_id_is_left_out() -> None:
    assert read(RSA.public(), RSA.public(alg="PS256")) == {}


def test_the_same_key_twice_counts_once() -> None:
    """An issuer that uses a key for two purposes may list it twice."""
    assert read(KEY.public(), KEY.public(use=None), KEY.public(x5t="AAAA")) == {"k1": "ES256"}
    assert unused(KEY.public(), KEY.public(use=None)) == []


UNSAID: list[dict[str, object]] = [
    {"use": None},
    {"use": ""},
    {"alg": None},
    {"alg": ""},
    {"key_ops": None},
    {"crv": ""},
    {"crv": None},
    {"x": None, "y": "", "d": None, "k": "", "x5u": None, "oth": None},
]


@pytest.mark.parametrize("members", UNSAID, ids=str)
def test_an_empty_member_counts_as_absent(members: dict[str, object]) -> None:
    """Some software writes every member that it knows, empty if it has no value."""
    assert read(RSA.public() | members) == {"r1": "RS256"}
    assert unused(RSA.public() | members) == []


def test_a_certificate_chain_beside_a_key_is_not_looked_at() -> None:
    chain: dict[str, object] = {
        "x5c": ["no certificate"],
        "x5t": 5,
        "x5t#S256": "",
        "issuer": "https://other",
    }

    assert read(RSA.public() | chain) == {"r1": "RS256"}


ODD: dict[str, str] = {
    "a member twice": '{"kty": "RSA", "kty": "RSA", "kid": "odd", "n": "AQAB", "e": "AQAB"}',
    "no number": '{"kid": "odd", "iat": NaN}',
    "a number beyond measure": '{"kid": "odd", "iat": 1e999}',
    "a long number": f'{{"kid": "odd", "iat": {"9" * 5000}}}',
    "half a surrogate pair": '{"kid": "\\ud800", "kty": "EC"}',
    "null": "null",
    "a text": '"key"',
    "a list": "[]",
    "nothing": "{}",
    "an unknown key type": '{"kty": "XYZ", "kid": "odd"}',
    "a key type that is a number": '{"kty": 5, "kid": "odd"}',
    "a curve that is a list": '{"kty": "EC", "kid": "odd", "crv": ["P-256"]}',
    "ML-DSA": '{"kty": "AKP", "alg": "ML-DSA-44", "kid": "odd", "pub": "AAAA"}',
    "ES512": '{"kty": "EC", "alg": "ES512", "crv": "P-521", "kid": "odd", "x": "AAAA", "y": "AAAA"}',
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("form", ["{odd}, {good}", "{good}, {odd}"], ids=["first", "last"])
def test_an_odd_key_is_left_out_and_the_others_count(odd: str, form: str) -> None:
    text = f'{{"keys": [{form.format(odd=odd, good=json.dumps(KEY.public()))}]}}'

    found = read_key_set(text.encode(), ISSUER_ALGORITHMS)

    assert list(found.keys) == ["k1"]
    (why,) = found.unused
    assert why.startswith(("odd: ", "keys[", "\ud800: "))


def test_each_key_that_is_left_out_is_named_with_its_reason() -> None:
    published = json.loads(PartyKey.make("ES256", "k2").private_jwk) | {"kid": "k2"}
    set_ = [
        RSA.public(use="enc"),
        published,
        KEY.public(kid=None),
        KEY.public(kid="odd", x="AAAA"),
        KEY.public(alg="ES512"),
        {"kid": "o", "kty": "oct", "k": "c" * 43},
    ]

    assert unused(*set_) == [
        'r1: the `use` of the key must be "sig", or absent; give a key that is for this',
        "k2: its private part was published, so it authenticates nothing; the issuer must replace it",
        "keys[2]: it has no `kid` of 1 to 256 characters",
        "odd: `x` must have exactly 32 octets, as the curve has; export the key again",
        "k1: it is not for an accepted algorithm: ES256, ES384, EdDSA, RS256, PS256",
        "o: its private part was published, so it authenticates nothing; the issuer must replace it",
    ]


def test_no_reason_holds_any_part_of_a_key() -> None:
    published = json.loads(PartyKey.make("ES256", "k2").private_jwk) | {"kid": "k2"}

    for member in ("d", "x", "y"):
        assert published[member] not in "".join(unused(published, published | {"d": None, "x": 5}))


def test_the_same_id_on_a_key_that_is_for_something_else_does_no_harm() -> None:
    assert read(KEY.public(), RSA.public(kid="k1", use="enc")) == {"k1": "ES256"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": null}',
        '{"keys": [], "keys": []}',
        json.dumps({"keys": [{"kid": str(n)} for n in range(MAX_SET_KEYS + 1)]}),
        '{"keys": []}' + " " * MAX_SET_BYTES,
        '{"keys": ' + "[" * 100 + "]" * 100 + "}",
    ],
    ids=lambda text: text[:20] or "nothing",
)
def test_a_text_that_is_no_key_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_key_set(text.encode(), ISSUER_ALGORITHMS)


def test_a_full_set_is_read() -> None:
    keys = [KEY.public(kid=str(number)) for number in range(MAX_SET_KEYS)]

    assert len(read(*keys)) == MAX_SET_KEYS


@pytest.mark.parametrize("algorithm", [None, "HS256", "none", "ES384"])
def test_a_registered_key_names_its_own_algorithm(algorithm: str | None) -> None:
    assert open_public_key(KEY.public_jwk).algorithm == "ES256"
    with pytest.raises(ValueError, match="the key"):
        open_public_key(json.dumps(KEY.public(alg=algorithm)))
