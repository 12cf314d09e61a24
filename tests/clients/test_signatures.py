"""Forged signatures that a lenient library accepts: the local verifier rejects them.

Each test also verifies a valid signature. test_signature_attacks.py has the same tests for the service.
"""

import json
from typing import Final

import pytest

from identity_client.verifying_keys import VerifyingKey, open_key
from identity_service.domain.ids import base64url
from identity_service.jose import keys
from tests.curve_orders import ECDSA_ORDERS, ED25519_ORDER

MESSAGE: Final = b"message"

ALGORITHMS: Final = [name for name in keys.ALGORITHMS if name != "HS256"]


def pair(algorithm: str) -> tuple[VerifyingKey, bytes]:
    made = keys.generate(algorithm)
    signature = keys.load(made.private_jwk, algorithm, private=True).sign(MESSAGE)
    key = open_key(made.public_jwk or "", algorithm)
    assert key is not None
    assert key.verify(MESSAGE, signature)
    return key, signature


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signature_is_of_one_message_and_has_one_length(algorithm: str) -> None:
    key, signature = pair(algorithm)
    others = [
        b"",
        signature[:-1],
        signature + bytes(1),
        bytes(1) + signature,
        bytes(len(signature)),
        b"\xff" * len(signature),
        signature[:-1] + bytes([signature[-1] ^ 1]),
    ]

    assert not key.verify(MESSAGE + b"!", signature)
    assert [other for other in others if key.verify(MESSAGE, other)] == []


@pytest.mark.parametrize("algorithm", ECDSA_ORDERS)
def test_the_numbers_of_an_ecdsa_signature_are_in_range_and_at_full_length(algorithm: str) -> None:
    """See CVE-2022-21449, and RFC 7518, section 3.4."""
    key, signature = pair(algorithm)
    size, n = len(signature) // 2, ECDSA_ORDERS[algorithm]
    r, s = signature[:size], signature[size:]
    number = int.from_bytes(s)
    pairs = ((0, 0), (0, number), (int.from_bytes(r), 0), (n, number), (int.from_bytes(r), n), (1, 0))

    for bad in pairs:
        assert not key.verify(MESSAGE, b"".join(one.to_bytes(size) for one in bad))
    assert not key.verify(MESSAGE, r + bytes(1) + s)
    assert not key.verify(MESSAGE, bytes(1) + r + bytes(1) + s)
    assert key.verify(MESSAGE, r + (n - number).to_bytes(size)), "high s is the same token"


def test_an_ed25519_signature_with_a_larger_s_is_false() -> None:
    """See RFC 8032, section 5.1.7."""
    key, signature = pair("EdDSA")
    larger = int.from_bytes(signature[32:], "little") + ED25519_ORDER

    assert not key.verify(MESSAGE, signature[:32] + larger.to_bytes(32, "little"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_published_key_is_for_its_algorithm_alone(algorithm: str) -> None:
    public = keys.generate(algorithm).public_jwk or ""
    assert open_key(public, algorithm) is not None

    for other in ALGORITHMS:
        if other != algorithm:
            with pytest.raises(ValueError, match="not one for"):
                open_key(public, other)
    assert open_key(public, "HS256") is None
    assert open_key(public, "none") is None


def test_a_point_that_is_not_on_the_curve_is_no_key() -> None:
    jwk = json.loads(keys.generate("ES256").public_jwk or "")

    for changes in ({"y": jwk["x"]}, {"y": base64url(bytes(33))}, {"x": "AQ"}, {"x": None}, {"crv": "P-384"}):
        with pytest.raises(ValueError, match=r"."):
            open_key(json.dumps(jwk | changes), "ES256")
