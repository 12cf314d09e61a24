"""DecryptionKey decrypts the tokens encrypted to it, and no others; keys that cannot do that are refused."""

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwe
from joserfc.jwk import ECKey, RSAKey

from identity_client import DecryptionKey, NotOpenableError
from identity_service.jose.encryption_keys import read_encryption_key
from identity_shared.strict import decode_base64url
from tests.jwts import encode

INSIDE = "header.claims.signature"
EC_JWK: dict[str, Any] = dict(ECKey.generate_key("P-256").as_dict(private=True))
RSA_JWK: dict[str, Any] = dict(RSAKey.generate_key(2048).as_dict(private=True))
KEY = DecryptionKey(EC_JWK, key_id="k1")
RSA_KEY = DecryptionKey(RSA_JWK, key_id="k1")
KEYS = pytest.mark.parametrize("key", [KEY, RSA_KEY], ids=["EC", "RSA"])


def encrypted(key: DecryptionKey, content: str = INSIDE) -> str:
    """Encrypt a text as the service does."""
    return read_encryption_key(key.public_jwk()).encrypt(content)


def made(key: DecryptionKey, **changes: Any) -> str:
    """Encrypt with the library alone; a header member whose value is None is left out."""
    header = {"alg": key.algorithm, "enc": "A256GCM", "kid": "k1", "typ": "at+jwt", "cty": "JWT"} | changes
    header = {name: value for name, value in header.items() if value is not None}
    registry = jwe.JWERegistry(algorithms=[header["alg"], header["enc"], "DEF"], strict_check_header=False)
    return jwe.encrypt_compact(header, INSIDE, key._key, registry=registry)


def with_header(token: str, **changes: Any) -> str:
    first, *rest = token.split(".")
    header = json.loads(decode_base64url(first)) | changes
    return ".".join([encode(header), *rest])


def opens(key: DecryptionKey, token: str) -> bool:
    try:
        return key.decrypt(token) == INSIDE
    except NotOpenableError:
        return False


@KEYS
def test_it_decrypts_a_token_that_was_encrypted_to_it(key: DecryptionKey) -> None:
    assert opens(key, encrypted(key))
    assert opens(key, made(key))


@KEYS
def test_another_key_by_the_same_name_opens_nothing(key: DecryptionKey) -> None:
    kind = RSAKey.generate_key(2048) if key is RSA_KEY else ECKey.generate_key("P-256")
    other = DecryptionKey(kind.as_dict(private=True), key_id="k1")

    assert not opens(other, encrypted(key))


@KEYS
@pytest.mark.parametrize(
    "changes",
    [
        {"kid": "k2"},
        {"kid": None},
        {"cty": None},
        {"cty": "at+jwt"},
        {"typ": "JWT"},
        {"typ": None},
        {"enc": "A128GCM"},
        {"enc": "A256CBC-HS512"},
        {"zip": "DEF"},
        {"jku": "https://keys.example"},
    ],
    ids=json.dumps,
)
def test_a_token_with_another_header_is_not_opened(key: DecryptionKey, changes: dict[str, Any]) -> None:
    assert not opens(key, made(key, **changes))


@pytest.mark.parametrize("alg", ["ECDH-ES", "ECDH-ES+A128KW"])
def test_the_algorithm_is_that_of_the_key(alg: str) -> None:
    assert not opens(KEY, made(KEY, alg=alg))
    assert opens(DecryptionKey(EC_JWK, key_id="k1", algorithm=alg), made(KEY, alg=alg))


def test_an_rsa_key_opens_nothing_of_a_weaker_padding() -> None:
    assert not opens(RSA_KEY, made(RSA_KEY, alg="RSA-OAEP"))


@KEYS
@pytest.mark.parametrize(
    "changes",
    [
        {"alg": "none"},
        {"alg": "dir"},
        {"alg": "RSA1_5"},
        {"alg": "PBES2-HS256+A128KW", "p2s": "QUFBQUFBQUE", "p2c": 2**31},
        {"crit": ["x"], "x": 1},
        {"epk": 5},
        {"epk": {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}},
        {"epk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}},
        {"epk": {"kty": "EC", "crv": "P-256", "x": 5, "y": 5}},
        {"epk": {"kty": "EC", "crv": "P-256", "x": "AQ" + "E" * 40 + "E", "y": "AQ" + "E" * 40 + "E"}},
    ],
    ids=json.dumps,
)
def test_a_token_whose_header_asks_for_another_algorithm_is_refused(
    key: DecryptionKey, changes: dict[str, Any]
) -> None:
    assert not opens(key, with_header(encrypted(key), **changes))


@KEYS
@pytest.mark.parametrize("part", range(5))
def test_a_token_with_one_bit_changed_is_not_opened(key: DecryptionKey, part: int) -> None:
    parts = encrypted(key).split(".")
    data = bytearray(decode_base64url(parts[part]))
    data[0] ^= 1
    parts[part] = encode(bytes(data))

    assert not opens(key, ".".join(parts))


@pytest.mark.parametrize("token", ["", "....", "a.b.c", "a.b.c.d.e", "é.é.é.é.é", "x" * 9000])
def test_a_malformed_token_is_refused(token: str) -> None:
    with pytest.raises(NotOpenableError, match="cannot be opened with this key"):
        KEY.decrypt(token)


def test_a_token_beyond_8_kib_is_not_opened() -> None:
    assert KEY.decrypt(encrypted(KEY, "x" * 5000)) == "x" * 5000
    with pytest.raises(NotOpenableError):
        KEY.decrypt(encrypted(KEY, "x" * 8000))


def test_a_header_in_another_spelling_is_not_opened() -> None:
    first, *rest = encrypted(KEY).split(".")
    twice = decode_base64url(first).replace(b"{", b'{"enc":"A256GCM",', 1)

    assert not opens(KEY, ".".join([encode(twice), *rest]))
    assert not opens(KEY, ".".join([first + "=", *rest]))
    with pytest.raises(ValueError, match="canonical"):
        decode_base64url("QR")


# Keys


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "ECDH-ES+A256KW"),
        (x25519.X25519PrivateKey.generate(), "ECDH-ES+A256KW"),
        (rsa.generate_private_key(65537, 2048), "RSA-OAEP-256"),
    ],
    ids=["EC", "X25519", "RSA"],
)
def test_a_key_is_read_from_pem(private: Any, algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = DecryptionKey.from_file(file)

    assert (key.algorithm, opens(key, encrypted(key))) == (algorithm, True)


def test_a_key_is_read_from_a_jwk_with_its_name_and_algorithm(tmp_path: Path) -> None:
    file = tmp_path / "key.jwk"
    file.write_text(json.dumps(EC_JWK | {"kid": "mine", "alg": "ECDH-ES", "use": "enc"}))
    key = DecryptionKey.from_file(file)

    assert (key.key_id, key.algorithm, opens(key, encrypted(key))) == ("mine", "ECDH-ES", True)


@pytest.mark.parametrize("content", ["{", "no key", ""])
def test_a_file_without_a_key_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(content)

    with pytest.raises(ValueError, match=r"is not JSON|holds no private key"):
        DecryptionKey.from_file(file)


def test_a_public_pem_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    with pytest.raises(ValueError, match="holds no private key"):
        DecryptionKey.from_file(file)


def test_a_key_that_signs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    private = ed25519.Ed25519PrivateKey.generate()
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    with pytest.raises(ValueError, match="must be on P-256"):
        DecryptionKey.from_file(file)


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        (EC_JWK | {"use": "sig"}, "not for decryption"),
        (EC_JWK | {"key_ops": ["sign"]}, "not for decryption"),
        (RSA_JWK | {"key_ops": ["encrypt"]}, "not for decryption"),
        (EC_JWK | {"alg": "RSA-OAEP-256"}, "alg one to encrypt with"),
        (RSA_JWK | {"alg": "RSA1_5"}, "alg one to encrypt with"),
        ({"kty": "oct", "k": "A" * 43}, "alg one to encrypt with"),
        (EC_JWK | {"x": EC_JWK["y"]}, "not well-formed"),
        ({"kty": "EC", "crv": "P-256"}, "not well-formed"),
        ({name: value for name, value in EC_JWK.items() if name != "d"}, "public one"),
    ],
)
def test_a_key_that_cannot_open_is_refused_and_not_shown(jwk: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        DecryptionKey(jwk)

    assert str(EC_JWK["d"]) not in str(error.value)


def test_an_rsa_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    private = rsa.generate_private_key(65537, 1024)  # noqa: S505  # to be refused
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    with pytest.raises(ValueError, match="2048 to 4096 bits"):
        DecryptionKey.from_file(file)


def test_an_rsa_jwk_that_is_too_short_is_refused_before_anything_is_done_with_it() -> None:
    with pytest.raises(ValueError, match="2048 to 4096 bits"):
        DecryptionKey({"kty": "RSA", "n": RSA_JWK["n"][:100], "e": "AQAB", "d": RSA_JWK["d"]})


def test_no_key_shows_itself() -> None:
    assert repr(KEY) == "DecryptionKey('k1', algorithm='ECDH-ES+A256KW')"
    assert str(EC_JWK["d"]) not in KEY.public_jwk()


def test_without_the_library_the_error_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("joserfc"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(ImportError, match=r"identity-client\[encryption\]"):
        DecryptionKey(EC_JWK)
