"""A weak, malformed or misused key is refused at every place where keys from outside enter the service."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from identity_service.domain.ids import base64url
from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.jose.certificates import check_authorities, check_pair, has_sound_key
from identity_service.jose.encryption_keys import generate_service_key, load_service_key, read_encryption_key
from identity_service.jose.jwks import open_public_key, read_key_set
from identity_service.jose.keys import load
from identity_service.jose.public_keys import StrictKeyChecker
from identity_shared import key_members
from identity_shared.strict import decode_base64url
from tests import weak_keys
from tests.jwts import PartyKey, key_set
from tests.weak_keys import ODD, WEAK, Numbers, certify, rsa_jwk

GOOD = rsa_jwk(Numbers(ODD))
WEAK_KEYS = pytest.mark.parametrize("numbers", WEAK.values(), ids=WEAK)


def more_octets(text: str) -> str:
    return base64url(bytes(1) + decode_base64url(text))


@WEAK_KEYS
@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_a_weak_key_verifies_nothing(numbers: Numbers, algorithm: str) -> None:
    text = json.dumps(rsa_jwk(numbers, alg=algorithm))

    for read in (
        lambda: load(text, algorithm, private=False),
        lambda: open_public_key(text),
        lambda: StrictKeyChecker().check_key(text),
    ):
        with pytest.raises(ValueError, match="make a new key"):
            read()


def test_a_weak_key_does_not_sign() -> None:
    with pytest.raises(ValueError, match="ROCA"):
        load(json.dumps(weak_keys.roca_jwk()), "RS256", private=True)


@WEAK_KEYS
def test_nothing_is_encrypted_to_a_weak_key(numbers: Numbers) -> None:
    text = json.dumps(rsa_jwk(numbers, alg="RSA-OAEP-256"))

    for read in (read_encryption_key, StrictKeyChecker().check_encryption_key):
        with pytest.raises(ValueError, match="make a new key"):
            read(text)


@WEAK_KEYS
@pytest.mark.parametrize("alg", ["RS256", None])
def test_a_weak_key_of_an_issuer_is_passed_over_and_its_others_count(
    numbers: Numbers, alg: str | None
) -> None:
    weak, good = rsa_jwk(numbers, **({"alg": alg} if alg else {})), PartyKey.make("ES256", "good").public()

    assert list(read_key_set(key_set(weak, good).encode(), ISSUER_ALGORITHMS).keys) == ["good"]
    with pytest.raises(ValueError, match="holds no key"):
        StrictKeyChecker().check_key_set(key_set(weak), ISSUER_ALGORITHMS)


@pytest.mark.parametrize(
    "changes",
    [{"use": False}, {"key_ops": {}}, {"key_ops": []}, {"key_ops": ["verify", "verify"]}],
    ids=str,
)
def test_an_issuers_key_with_a_malformed_use_is_skipped(changes: dict[str, Any]) -> None:
    odd, good = PartyKey.make("ES256", "odd"), PartyKey.make("ES256", "good").public()

    assert list(read_key_set(key_set(odd.public() | changes, good).encode(), ISSUER_ALGORITHMS).keys) == [
        "good"
    ]


def test_the_numbers_of_a_key_are_checked_once_for_all_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr(key_members, "has_roca_fingerprint", checked.append)

    read_key_set(key_set(GOOD).encode(), ["RS256", "PS256", "ES256"])
    read_key_set(key_set(GOOD | {"use": "enc"}).encode(), ["RS256", "PS256", "ES256"])

    assert checked == [ODD, ODD]


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("change", [more_octets, lambda text: text + "="])
def test_a_padded_coordinate_is_refused_wherever_a_key_is_registered(name: str, change: Any) -> None:
    jwk = PartyKey.make("ES256").public()
    padded = jwk | {name: change(jwk[name])}
    checker = StrictKeyChecker()

    checker.check_key(json.dumps(jwk))
    checker.check_encryption_key(json.dumps(jwk | {"alg": "ECDH-ES", "use": "enc"}))
    with pytest.raises(ValueError, match=f"`{name}`"):
        checker.check_key(json.dumps(padded))
    with pytest.raises(ValueError, match=f"`{name}`"):
        checker.check_encryption_key(json.dumps(padded | {"alg": "ECDH-ES", "use": "enc"}))
    assert not read_key_set(key_set(padded).encode(), ISSUER_ALGORITHMS).keys


def test_a_padded_ed25519_key_is_refused() -> None:
    jwk = PartyKey.make("EdDSA").public()

    for changed in (jwk["x"] + "=", more_octets(jwk["x"])):
        with pytest.raises(ValueError, match="`x`"):
            StrictKeyChecker().check_key(json.dumps(jwk | {"x": changed}))


@pytest.mark.parametrize("changes", [{"key_ops": None}, {"key_ops": "deriveKey"}, {"use": None}], ids=str)
def test_a_registered_encryption_key_must_be_for_encryption(changes: dict[str, Any]) -> None:
    jwk = PartyKey.make("ES256").public(alg="ECDH-ES", use="enc") | changes

    with pytest.raises(ValueError, match=r"must be for encryption: the `(use|key_ops)`"):
        read_encryption_key(json.dumps(jwk))


@pytest.mark.parametrize("changes", [{"use": "sig"}, {"key_ops": ["sign"]}, {"key_ops": None}], ids=str)
def test_the_key_that_opens_tokens_here_is_for_that(changes: dict[str, Any]) -> None:
    private = json.loads(generate_service_key().private_jwk)

    assert load_service_key(json.dumps(private)).key_id
    with pytest.raises(ValueError, match=r"`(use|key_ops)` of the key"):
        load_service_key(json.dumps(private | changes))


# Certificates


def test_a_certificate_for_tls_has_no_weak_key() -> None:
    key = weak_keys.roca_key()
    certificate = certify(key.public_key(), "localhost").certificate

    with pytest.raises(ValueError, match="ROCA"):
        check_pair(certificate, weak_keys.pem(key))
    good = rsa.generate_private_key(65537, 2048)
    facts = check_pair(certify(good.public_key(), "localhost").certificate, weak_keys.pem(good))
    assert facts.names == ("localhost",)


@WEAK_KEYS
def test_no_certificate_of_the_chain_that_clients_are_shown_has_a_weak_key(numbers: Numbers) -> None:
    key = rsa.generate_private_key(65537, 2048)
    leaf = certify(key.public_key(), "localhost").certificate
    weak, good = (certify(weak_keys.public_key(of), authority=True) for of in (numbers, Numbers(ODD)))

    refused = r"certificate 3 of the chain \(CN=a weak one\) has a key that is refused.*make a new key"
    with pytest.raises(ValueError, match=refused):
        check_pair(leaf + good.certificate + weak.certificate, weak_keys.pem(key))
    assert check_pair(leaf + good.certificate + good.authority, weak_keys.pem(key)).names == ("localhost",)


@WEAK_KEYS
def test_an_authority_of_clients_has_no_weak_key(numbers: Numbers) -> None:
    certified = certify(weak_keys.public_key(numbers), authority=True)

    with pytest.raises(ValueError, match=r"a CA certificate whose key is refused.*make a new key"):
        check_authorities(certified.authority + certified.certificate)
    good = certify(weak_keys.public_key(Numbers(ODD)), authority=True)
    assert len(check_authorities(good.authority + good.certificate)) == 2


@WEAK_KEYS
def test_a_certificate_with_a_weak_key_proves_nothing(numbers: Numbers) -> None:
    certified = certify(weak_keys.public_key(numbers), "reports.example")

    assert not has_sound_key(certified.certificate)
    assert has_sound_key(certified.authority)
    assert has_sound_key(certify(weak_keys.public_key(Numbers(ODD)), "reports.example").certificate)


@pytest.mark.parametrize("content", [b"", b"no PEM", bytes(range(40))], ids=["empty", "text", "bytes"])
def test_a_malformed_certificate_proves_nothing(content: bytes) -> None:
    assert not has_sound_key(content)


SECRET = json.loads(PartyKey.make("ES256", "secret").private_jwk)["d"]
PRIVATE = json.dumps(PartyKey.make("ES256").public() | {"d": SECRET})


@pytest.mark.parametrize(
    "private",
    [PRIVATE, PRIVATE.replace('"d"', '"d": "x", "d"'), f"[{PRIVATE}]", f'"{SECRET}"'],
    ids=["a key", "a member twice", "in a list", "a text"],
)
def test_no_private_key_is_kept_beside_a_good_one(private: str) -> None:
    text = f'{{"keys": [{json.dumps(PartyKey.make("ES256", "good").public())}, {private}]}}'

    with pytest.raises(ValueError, match=r".") as refused:
        StrictKeyChecker().check_key_set(text, ISSUER_ALGORITHMS)
    assert SECRET not in str(refused.value)


def test_findings_about_a_key_set_are_printable() -> None:
    with pytest.raises(ValueError, match=r"odd\\x1b: it is not for an accepted algorithm"):
        StrictKeyChecker().check_key_set('{"keys": [{"kid": "odd\\u001b", "kty": "X"}]}', ISSUER_ALGORITHMS)
