"""Key sets of others: which keys are taken from one, and which sets are refused as a whole."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.jose.jwks import MAX_SET_BYTES, MAX_SET_KEYS, open_public_key, read_key_set
from identity_service.jose.strict import decode_base64url
from tests.jwts import PartyKey, key_set

KEY = PartyKey.make("ES256", "k1")
RSA = PartyKey.make("RS256", "r1")


def read(*jwks: Any, algorithms: tuple[str, ...] = ISSUER_ALGORITHMS) -> dict[str, str]:
    """The algorithm of each key that is taken."""
    found = read_key_set(key_set(*jwks).encode(), algorithms)
    return {key_id: key.algorithm for key_id, key in found.items()}


@pytest.mark.parametrize("algorithm", ISSUER_ALGORITHMS)
def test_a_key_verifies_what_its_private_part_signed(algorithm: str) -> None:
    key = PartyKey.make(algorithm, "k1")
    header, claims, signature = key.jwt({"sub": "x"}).split(".")

    found = read_key_set(key_set(key.public()).encode(), ISSUER_ALGORITHMS)["k1"]

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
    """RFC 7517 section 5. A published private key proves nothing either."""
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


def test_a_key_without_alg_is_for_the_first_algorithm_that_it_can_be_for() -> None:
    bare = RSA.public(alg=None)

    assert read(bare) == {"r1": "RS256"}
    assert read(bare, algorithms=("ES256", "PS256", "RS256")) == {"r1": "PS256"}
    assert read(bare, algorithms=("ES256",)) == {}


def test_a_key_of_an_algorithm_that_is_not_accepted_is_passed_over() -> None:
    assert read(KEY.public(), RSA.public(), algorithms=("RS256",)) == {"r1": "RS256"}


def test_two_keys_of_one_id_make_the_set_useless() -> None:
    with pytest.raises(ValueError, match="same kid"):
        read(KEY.public(), PartyKey.make("ES256", "k1").public())


def test_the_same_id_on_a_key_that_is_for_something_else_does_no_harm() -> None:
    assert read(KEY.public(), RSA.public(kid="k1", use="enc")) == {"k1": "ES256"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": ["k"]}',
        '{"keys": [null]}',
        '{"keys": [], "keys": []}',
        json.dumps({"keys": [{"kid": str(n)} for n in range(MAX_SET_KEYS + 1)]}),
        '{"keys": []}' + " " * MAX_SET_BYTES,
        '{"keys": ' + "[" * 100 + "]" * 100 + "}",
    ],
    ids=lambda text: text[:20] or "nothing",
)
def test_what_is_no_key_set_is_refused(text: str) -> None:
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
