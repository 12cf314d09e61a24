"""ML-DSA keys as JWKs: the example of RFC 9964, and malformed keys."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa

from identity_service.jose import keys, ml_dsa
from identity_service.jose.keys import GeneratedKey

NAMES = ["ML-DSA-44", "ML-DSA-65"]


@pytest.fixture(scope="module", params=NAMES)
def made(request: pytest.FixtureRequest) -> GeneratedKey:
    return keys.generate(request.param)


def changed(made: GeneratedKey, **changes: Any) -> str:
    members = json.loads(made.private_jwk) | changes
    return json.dumps({name: value for name, value in members.items() if value is not None})


def test_the_thumbprint_is_that_of_the_example_of_rfc_9964() -> None:
    """The example is an ML-DSA-44 key whose seed is all zeros."""
    example = ml_dsa.ML_DSA_44.to_jwk(mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(32)), as_dict=True)

    assert example["priv"] == "A" * 43
    assert example["pub"].startswith("unH59k4RuutY-pxvu24U5h8YZD2rSVtHU5qRZsoBmBM")
    assert ml_dsa.thumbprint(example) == "T4xl70S7MT6Zeq6r9V9fPJGVn76wfnXJ21-gyo0Gu6o"


def test_the_seed_is_in_the_private_key_alone(made: GeneratedKey) -> None:
    assert len(json.loads(made.private_jwk)["priv"]) == 43
    assert "priv" not in json.loads(made.public_jwk or "")


def test_a_signature_is_that_of_the_primitive_with_an_empty_context(made: GeneratedKey) -> None:
    signature = keys.load(made.private_jwk, made.algorithm, private=True).sign(b"message")
    public = getattr(ml_dsa, made.algorithm.replace("-", "_")).from_jwk(json.loads(made.public_jwk or ""))

    assert len(signature) == {"ML-DSA-44": 2420, "ML-DSA-65": 3309}[made.algorithm]
    public.verify(signature, b"message")
    loaded = keys.load(made.public_jwk or "", made.algorithm, private=False)
    assert not loaded.verify(b"message", signature[:-1])
    assert not loaded.verify(b"message", bytes(len(signature)))


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": None},
        {"alg": "ML-DSA-87"},
        {"pub": None},
        {"pub": "AAAA"},
        {"pub": 1},
        {"priv": "AAAA"},
        {"priv": "A" * 43},
        {"kty": "OKP"},
        {"crv": "Ed25519"},
    ],
)
def test_a_key_that_is_not_well_formed_is_refused(made: GeneratedKey, changes: dict[str, Any]) -> None:
    assert keys.load(changed(made), made.algorithm, private=True).key_id
    with pytest.raises(ValueError, match="the key"):
        keys.load(changed(made, **changes), made.algorithm, private=True)


def test_a_public_key_cannot_sign(made: GeneratedKey) -> None:
    with pytest.raises(ValueError, match="no private part"):
        keys.load(changed(made, priv=None), made.algorithm, private=True)


def test_a_key_of_one_parameter_set_is_not_one_of_the_other(made: GeneratedKey) -> None:
    (other,) = (name for name in NAMES if name != made.algorithm)

    with pytest.raises(ValueError, match="the key"):
        keys.load(changed(made, alg=other), other, private=True)
