"""Forged signatures and weak keys that a lenient library accepts, each compared with a valid one."""

import json
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from identity_service.domain.ids import base64url
from identity_service.jose import keys
from identity_service.jose.keys import GeneratedKey, JwsKey
from tests.curve_orders import ECDSA_ORDERS, ED25519_ORDER

Generated = dict[str, GeneratedKey]
MESSAGE: Final = b"message"
P: Final = 2**255 - 19
"""The prime of Ed25519."""
ORDER_8: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
SMALL: Final = [y + (sign << 255) for y in (0, 1, P - 1, ORDER_8, P - ORDER_8, P, P + 1) for sign in (0, 1)]


def ed25519(y: int) -> str:
    return json.dumps({"kty": "OKP", "crv": "Ed25519", "x": base64url(y.to_bytes(32, "little"))})


def pair(generated: Generated, algorithm: str) -> tuple[JwsKey, bytes]:
    """Return the verifying key of an algorithm, and a valid signature."""
    made = generated[algorithm]
    assert made.public_jwk is not None
    signature = keys.load(made.private_jwk, algorithm, private=True).sign(MESSAGE)
    verifying = keys.load(made.public_jwk, algorithm, private=False)
    assert verifying.verify(MESSAGE, signature)
    return verifying, signature


@pytest.mark.parametrize("y", SMALL, ids=hex)
def test_a_point_of_small_order_is_no_ed25519_key(generated: Generated, y: int) -> None:
    """With such a key, a forged signature is valid for every message, or for about one in eight."""
    with pytest.raises(ValueError, match="small order"):
        keys.load(ed25519(y), "EdDSA", private=False)
    assert keys.load(generated["EdDSA"].public_jwk or "", "EdDSA", private=False).key_id


def test_an_ed25519_signature_with_a_larger_s_is_false(generated: Generated) -> None:
    """RFC 8032, section 5.1.7, requires S to be less than the order: a signature has only one valid form."""
    key, signature = pair(generated, "EdDSA")
    s = int.from_bytes(signature[32:], "little")

    assert not key.verify(MESSAGE, signature[:32] + (s + ED25519_ORDER).to_bytes(32, "little"))


def test_an_ed25519_signature_of_small_order_points_is_false(generated: Generated) -> None:
    key, _ = pair(generated, "EdDSA")

    for y in SMALL:
        assert not key.verify(MESSAGE, y.to_bytes(32, "little") + bytes(32))


@pytest.mark.parametrize("algorithm", ECDSA_ORDERS)
def test_an_ecdsa_signature_of_numbers_out_of_range_is_false(generated: Generated, algorithm: str) -> None:
    """CVE-2022-21449: r and s must be at least 1 and at most n - 1."""
    key, signature = pair(generated, algorithm)
    size, n = len(signature) // 2, ECDSA_ORDERS[algorithm]
    r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))

    for bad_r, bad_s in ((0, 0), (0, s), (r, 0), (n, s), (r, n), (n, n), (1, 0), (n - 1, n)):
        assert not key.verify(MESSAGE, bad_r.to_bytes(size, "big") + bad_s.to_bytes(size, "big"))


@pytest.mark.parametrize("algorithm", ECDSA_ORDERS)
def test_an_ecdsa_signature_has_one_encoding(generated: Generated, algorithm: str) -> None:
    """RFC 7518, section 3.4: the two numbers have full length, and DER is not used."""
    key, signature = pair(generated, algorithm)
    size = len(signature) // 2
    r, s = signature[:size], signature[size:]
    der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))

    for other in (der, bytes(1) + r + bytes(1) + s, signature + bytes(1), signature[:-1], b"", s + r):
        assert not key.verify(MESSAGE, other)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
@pytest.mark.parametrize("exponent", [0, 1, 2, 65536])
def test_an_rsa_key_with_an_exponent_that_is_small_or_even_is_refused(
    generated: Generated, algorithm: str, exponent: int
) -> None:
    """With the exponent 1, the padded hash of a message is its own signature."""
    jwk = json.loads(generated[algorithm].public_jwk or "")
    bad = jwk | {"e": base64url(exponent.to_bytes(3, "big"))}

    with pytest.raises(ValueError, match="key"):
        keys.load(json.dumps(bad), algorithm, private=False)
    assert keys.load(json.dumps(jwk | {"e": "AQAB"}), algorithm, private=False).key_id


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_an_rsa_signature_of_another_length_or_of_a_trivial_number_is_false(
    generated: Generated, algorithm: str
) -> None:
    key, signature = pair(generated, algorithm)
    size = len(signature)

    for other in (
        bytes(1) + signature,
        signature[1:],
        bytes(size),
        (1).to_bytes(size, "big"),
        b"\xff" * size,
    ):
        assert not key.verify(MESSAGE, other)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_the_paddings_of_rsa_are_not_taken_for_each_other(generated: Generated, algorithm: str) -> None:
    """An RSA key is for one padding, PKCS #1 v1.5 or PSS, and used with no other (RFC 8725, 3.1)."""
    _, signature = pair(generated, algorithm)
    (other,) = {"RS256", "PS256"} - {algorithm}
    made = json.loads(generated[algorithm].public_jwk or "")
    same_numbers = {name: value for name, value in made.items() if name != "alg"}

    assert not keys.load(json.dumps(same_numbers), other, private=False).verify(MESSAGE, signature)
    with pytest.raises(ValueError, match="another algorithm"):
        keys.load(json.dumps(made), other, private=False)
