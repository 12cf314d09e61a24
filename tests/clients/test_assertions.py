"""AssertionSigner: the keys that it accepts, and its signatures, which the registered key verifies."""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from identity_client import AssertionSigner
from identity_client.credentials import by_assertion, by_certificate, by_federated_token
from identity_service.jose.keys import thumbprint
from identity_service.jose.public_keys import StrictKeyChecker

_KEYS: dict[str, Callable[[], Any]] = {
    "ES256": partial(ec.generate_private_key, ec.SECP256R1()),
    "ES384": partial(ec.generate_private_key, ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": partial(rsa.generate_private_key, 65537, 2048),
}


@cache
def key_for(algorithm: str) -> Any:
    return _KEYS[algorithm]()


def pem(key: Any) -> bytes:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text


def private_jwk(key: Any, algorithm: str, **more: str) -> dict[str, Any]:
    return dict(jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)) | more


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key"


@pytest.mark.parametrize("algorithm", _KEYS)
def test_a_pem_file_gives_the_algorithm_and_the_id_of_its_key(path: Path, algorithm: str) -> None:
    path.write_bytes(pem(key_for(algorithm)))

    signer = AssertionSigner.from_file("reports", path)
    public = json.loads(signer.public_jwk())
    text = signer()

    assert (public["alg"], public["kid"]) == (algorithm, thumbprint(public))
    assert StrictKeyChecker().check_key(signer.public_jwk()) == public["kid"]
    header = jwt.get_unverified_header(text)
    assert header == {"alg": algorithm, "kid": public["kid"], "typ": "client-authentication+jwt"}
    claims = jwt.decode(text, jwt.PyJWK(public), [algorithm], audience="identity-service")
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("reports", "reports", "identity-service")
    assert claims["exp"] - claims["iat"] == 60


def test_a_jwk_file_gives_its_own_id_and_algorithm(path: Path) -> None:
    jwk = private_jwk(key_for("RS256"), "RS256", kid="mine", alg="PS256")
    path.write_text(json.dumps(jwk))

    signer = AssertionSigner.from_file("reports", str(path), audience="https://id.example")

    header = jwt.get_unverified_header(signer())
    assert (header["alg"], header["kid"]) == ("PS256", "mine")
    assert "https://id.example" in str(jwt.decode(signer(), options={"verify_signature": False}))


def test_every_assertion_has_an_id_of_its_own() -> None:
    signer = AssertionSigner("reports", key_for("ES256"))

    ids = {jwt.decode(signer(), options={"verify_signature": False})["jti"] for _ in range(20)}

    assert len(ids) == 20


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PRIVATE" + b" KEY-----\n",
        b"{",
        b"{}",
        json.dumps(private_jwk(key_for("ES256").public_key(), "ES256")).encode(),
        json.dumps({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "alg": "HS256"}).encode(),
        pem(ed448.Ed448PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP521R1())),
        key_for("ES256").private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        ),
        json.dumps(private_jwk(key_for("ES256"), "ES256", alg="none")).encode(),
    ],
    ids=[
        "nothing",
        "half",
        "no JSON",
        "no JWK",
        "public",
        "symmetric",
        "Ed448",
        "P-521",
        "encrypted",
        "none",
    ],
)
def test_a_file_without_a_signing_key_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"."):
        AssertionSigner.from_file("reports", path)


def test_a_signer_does_not_show_its_key() -> None:
    signer = AssertionSigner("reports", key_for("ES256"), key_id="k1")

    assert repr(signer) == "AssertionSigner('reports', key_id='k1')"
    assert "d" not in json.loads(signer.public_jwk())


def test_credentials_are_messages(path: Path) -> None:
    path.write_text("a.b.c\n")

    assert by_assertion(lambda: "x.y.z").client_assertion.jwt == "x.y.z"
    assert by_federated_token("a.b.c") == by_federated_token(path)
    assert by_certificate().WhichOneof("kind") == "client_certificate"
