"""The client refuses weak and misused keys in every format in which a program can pass a key."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from joserfc.jwk import ECKey, OKPKey, RSAKey

from identity_client import AssertionSigner, DecryptionKey
from identity_client.verifying_keys import open_key
from identity_service.domain.ids import base64url
from identity_shared.strict import decode_base64url
from tests import weak_keys
from tests.jwts import PartyKey
from tests.weak_keys import WEAK, Numbers, rsa_jwk

WEAK_KEYS = pytest.mark.parametrize("numbers", WEAK.values(), ids=WEAK)
EC: dict[str, Any] = dict(ECKey.generate_key("P-256").as_dict(private=True))
X25519: dict[str, Any] = dict(OKPKey.generate_key("X25519").as_dict(private=True))
RSA: dict[str, Any] = dict(RSAKey.generate_key(2048).as_dict(private=True))
SIGNING: dict[str, Any] = dict(
    jwt.get_algorithm_by_name("ES256").to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
) | {"alg": "ES256"}


def more_octets(text: str) -> str:
    return base64url(bytes(1) + decode_base64url(text))


PADDED = pytest.mark.parametrize("change", [more_octets, lambda text: text + "="], ids=["octet", "="])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key"


# Published keys


@WEAK_KEYS
@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_a_weak_key_that_is_published_verifies_nothing(numbers: Numbers, algorithm: str) -> None:
    assert open_key(json.dumps(rsa_jwk(Numbers(weak_keys.ODD))), algorithm) is not None
    with pytest.raises(ValueError, match="make a new key"):
        open_key(json.dumps(rsa_jwk(numbers)), algorithm)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "EdDSA", "RS256", "ML-DSA-44"])
@pytest.mark.parametrize(
    "changes",
    [{"use": "enc"}, {"use": None}, {"key_ops": ["sign"]}, {"key_ops": None}, {"key_ops": "verify"}],
    ids=json.dumps,
)
def test_a_published_key_is_for_verifying(algorithm: str, changes: dict[str, Any]) -> None:
    jwk = PartyKey.make(algorithm).public()

    assert open_key(json.dumps(jwk | {"key_ops": ["verify"]}), algorithm) is not None
    with pytest.raises(ValueError, match=r"`(use|key_ops)` of the key"):
        open_key(json.dumps(jwk | changes), algorithm)


@PADDED
@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "EdDSA", "RS256"])
def test_a_published_key_has_one_spelling(algorithm: str, change: Any) -> None:
    jwk = PartyKey.make(algorithm).public()

    for name in jwk.keys() & {"x", "y", "n", "e"}:
        with pytest.raises(ValueError, match=f"`{name}` must"):
            open_key(json.dumps(jwk | {name: change(jwk[name])}), algorithm)


# Keys that sign assertions


def test_an_assertion_is_signed_with_no_weak_key(path: Path) -> None:
    key = weak_keys.roca_key()
    with pytest.raises(ValueError, match="ROCA"):
        AssertionSigner("reports", key)
    for content in (weak_keys.pem(key), json.dumps(weak_keys.roca_jwk(alg="RS256")).encode()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="ROCA"):
            AssertionSigner.from_file("reports", path)


@pytest.mark.parametrize(
    "changes",
    [{"use": "enc"}, {"use": None}, {"key_ops": ["verify"]}, {"key_ops": None}, {"key_ops": "sign"}],
    ids=json.dumps,
)
def test_an_assertion_is_signed_with_a_key_that_is_for_signing(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps(SIGNING | {"use": "sig", "key_ops": ["sign"]}))
    assert AssertionSigner.from_file("reports", path)()

    path.write_text(json.dumps(SIGNING | changes))
    with pytest.raises(ValueError, match=r"key: the `(use|key_ops)` of the key") as error:
        AssertionSigner.from_file("reports", path)
    assert SIGNING["d"] not in str(error.value)


@PADDED
@pytest.mark.parametrize("name", ["x", "y", "d"])
def test_a_key_that_signs_has_one_spelling(path: Path, name: str, change: Any) -> None:
    path.write_text(json.dumps(SIGNING | {name: change(SIGNING[name])}))

    with pytest.raises(ValueError, match=f"`{name}` must") as error:
        AssertionSigner.from_file("reports", path)
    assert SIGNING["d"] not in str(error.value)


@PADDED
def test_an_ed25519_key_that_signs_has_one_spelling(path: Path, change: Any) -> None:
    jwk = jwt.get_algorithm_by_name("EdDSA").to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)
    path.write_text(json.dumps(jwk | {"d": change(jwk["d"]), "alg": "EdDSA"}))

    with pytest.raises(ValueError, match="`d` must") as error:
        AssertionSigner.from_file("reports", path)
    assert jwk["d"] not in str(error.value)


# Keys that open tokens


def test_no_weak_key_opens_tokens(path: Path) -> None:
    with pytest.raises(ValueError, match="ROCA"):
        DecryptionKey(weak_keys.roca_jwk())
    path.write_bytes(weak_keys.pem(weak_keys.roca_key()))
    with pytest.raises(ValueError, match="ROCA"):
        DecryptionKey.from_file(path)


@WEAK_KEYS
def test_no_weak_numbers_open_tokens(numbers: Numbers) -> None:
    with pytest.raises(ValueError, match=r"not well-formed: .*make a new key"):
        DecryptionKey(RSA | rsa_jwk(numbers))


@pytest.mark.parametrize("jwk", [EC, X25519, RSA], ids=["EC", "X25519", "RSA"])
@pytest.mark.parametrize(
    "changes",
    [
        {"use": "sig"},
        {"use": None},
        {"key_ops": ["sign"]},
        {"key_ops": None},
        {"key_ops": []},
        {"key_ops": "decrypt"},
    ],
    ids=json.dumps,
)
def test_a_key_that_opens_tokens_is_for_that(jwk: dict[str, Any], changes: dict[str, Any]) -> None:
    assert DecryptionKey(jwk | {"use": "enc", "key_ops": ["unwrapKey", "deriveKey"]}).key_id
    with pytest.raises(ValueError, match=r"not for decryption: the `(use|key_ops)`") as error:
        DecryptionKey(jwk | changes)
    assert jwk["d"] not in str(error.value)


@PADDED
@pytest.mark.parametrize("jwk", [EC, X25519, RSA], ids=["EC", "X25519", "RSA"])
def test_a_key_that_opens_tokens_has_one_spelling(jwk: dict[str, Any], change: Any) -> None:
    names = {"x", "y", "d"} if jwk is not RSA else {"n", "e"}

    for name in jwk.keys() & names:
        with pytest.raises(ValueError, match=f"not well-formed: `{name}` must") as error:
            DecryptionKey(jwk | {name: change(jwk[name])})
        assert jwk["d"] not in str(error.value)
