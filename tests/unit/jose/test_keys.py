"""Keys of the service: generated, loaded with every check, and used.

Some of the refused keys are ones that the library alone would accept.
"""

import base64
import json
import warnings
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from identity_service.domain.errors import ConfigurationError
from identity_service.jose import keys
from identity_service.jose.keys import ALGORITHMS, GeneratedKey, JwsKey
from identity_shared.key_members import check_members

Generated = dict[str, GeneratedKey]
ASYMMETRIC = [name for name in ALGORITHMS if name != "HS256"]


def jwk(key: GeneratedKey, *, private: bool = False, **changes: Any) -> str:
    """Return the JWK as text with these changes; a member whose value is None is left out."""
    members = json.loads(key.private_jwk if private else key.public_jwk or key.private_jwk) | changes
    return json.dumps({name: value for name, value in members.items() if value is not None})


def verifying(key: GeneratedKey) -> JwsKey:
    return keys.load(key.public_jwk or key.private_jwk, key.algorithm, private=False)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_that_this_service_makes_passes_the_checks_of_members(
    generated: Generated, algorithm: str
) -> None:
    made = generated[algorithm]

    check_members(json.loads(made.private_jwk))
    check_members(json.loads(made.public_jwk or made.private_jwk))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_verifies_its_own_signatures_and_no_others(generated: Generated, algorithm: str) -> None:
    made = generated[algorithm]
    signature = keys.load(made.private_jwk, algorithm, private=True).sign(b"message")

    assert verifying(made).verify(b"message", signature)
    assert not verifying(made).verify(b"massage", signature)
    assert not verifying(keys.generate(algorithm)).verify(b"message", signature)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_public_key_has_no_private_member(generated: Generated, algorithm: str) -> None:
    public = json.loads(generated[algorithm].public_jwk or "")

    assert public.keys() <= {"kty", "crv", "x", "y", "n", "e", "pub", "kid", "alg", "use"}
    assert (public["alg"], public["use"]) == (algorithm, "sig")
    assert public["kid"] == generated[algorithm].key_id == keys.thumbprint(public)


def test_a_symmetric_key_has_no_public_part_and_its_id_reveals_nothing(generated: Generated) -> None:
    assert generated["HS256"].public_jwk is None
    secret = base64.urlsafe_b64decode(json.loads(generated["HS256"].private_jwk)["k"] + "=")
    assert generated["HS256"].key_id != keys.thumbprint(json.loads(generated["HS256"].private_jwk))
    assert len(secret) == 32


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    """The example of RFC 7638, section 3.1, has this thumbprint."""
    example = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE"
        "CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q"
        "vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6"
        "WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
    }

    assert keys.thumbprint(example) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "changes", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": "verify"}, {"alg": "ES512"}]
)
def test_a_key_that_forbids_the_operation_is_refused(
    generated: Generated, algorithm: str, changes: dict[str, Any]
) -> None:
    """PyJWT ignores the members `use`, `key_ops` and `alg`."""
    forbidden = jwk(generated[algorithm], **changes)

    with pytest.raises(ValueError, match="key"):
        keys.load(forbidden, algorithm, private=False)
    if ALGORITHMS[algorithm].key_type != "AKP":  # which PyJWT does not know
        assert jwt.PyJWK(json.loads(forbidden) | {"alg": algorithm}).key is not None
    assert keys.load(jwk(generated[algorithm], key_ops=["verify"]), algorithm, private=False).key_id


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_for_another_algorithm_is_refused(generated: Generated, algorithm: str) -> None:
    for other in ALGORITHMS:
        same = ALGORITHMS[other].key_type == ALGORITHMS[algorithm].key_type
        if other != algorithm and not (same and ALGORITHMS[other].curve == ALGORITHMS[algorithm].curve):
            with pytest.raises(ValueError, match="not one for"):
                keys.load(jwk(generated[other], alg=None), algorithm, private=False)


def test_an_rsa_key_of_1024_bits_is_refused() -> None:
    """PyJWT accepts it, at most with a warning."""
    weak = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key())  # noqa: S505

    with pytest.raises(ValueError, match="2048"):
        keys.load(weak, "RS256", private=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert jwt.PyJWK.from_json(weak, "RS256").key is not None


def test_a_short_hmac_key_is_refused() -> None:
    """PyJWT accepts it, at most with a warning."""
    weak = json.dumps({"kty": "oct", "k": "c2hvcnQ"})

    with pytest.raises(ValueError, match="32"):
        keys.load(weak, "HS256", private=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert jwt.encode({}, "short", "HS256")


def test_a_point_that_is_not_on_the_curve_is_refused(generated: Generated) -> None:
    with pytest.raises(ValueError, match="well-formed"):
        keys.load(jwk(generated["ES256"], y="A" * 43), "ES256", private=False)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_public_key_does_not_sign(generated: Generated, algorithm: str) -> None:
    with pytest.raises(ValueError, match="private"):
        keys.load(generated[algorithm].public_jwk or "", algorithm, private=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kty":"EC"}', '{"kty":"EC","crv":"P-256","x":1,"y":2}'])
def test_a_malformed_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whichever check finds it
        keys.load(text, "ES256", private=False)


@pytest.mark.parametrize("algorithm", ["none", "ES512", "es256", "HS512", ""])
def test_another_algorithm_does_not_exist(algorithm: str) -> None:
    with pytest.raises(ConfigurationError):
        keys.generate(algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "signature", [b"", b"\x00", b"\x00" * 64, b"\xff" * 64, b"\x00" * 96, b"\x01" * 10_000]
)
def test_no_signature_that_a_stranger_sends_raises(
    generated: Generated, algorithm: str, signature: bytes
) -> None:
    """The signatures have numbers that are zero, too large or out of range, as in CVE-2022-21449."""
    assert verifying(generated[algorithm]).verify(b"message", signature) is False


@given(signature=st.binary(max_size=100))
def test_random_signatures_are_false(generated: Generated, signature: bytes) -> None:
    for algorithm in ("ES256", "EdDSA", "HS256"):
        assert verifying(generated[algorithm]).verify(b"message", signature) is False


def test_the_repr_of_a_key_hides_its_secret(generated: Generated) -> None:
    for made in generated.values():
        private = json.loads(made.private_jwk)
        secret = private.get("d") or private.get("priv") or private["k"]
        loaded = keys.load(made.private_jwk, made.algorithm, private=True)
        assert secret not in repr(made) + repr(loaded) + str(loaded)
