"""TLS certificates and keys: which files are accepted, and what the errors say about the others."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from identity_service.jose.authority import Authority, Pair
from identity_service.jose.certificates import (
    AlternativeNames,
    alternative_names,
    check_authorities,
    check_pair,
)

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("test", lifetime=DAY)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("a", names=("a.example", "127.0.0.1", "spiffe://x/y"), lifetime=DAY, server=True)


def pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_the_names_and_the_expiry_of_a_certificate_are_read(pair: Pair) -> None:
    facts = check_pair(pair.certificate, pair.key)

    assert facts.names == ("a.example", "127.0.0.1", "spiffe://x/y")
    assert timedelta(0) < facts.expire_time - facts.start_time <= DAY + timedelta(hours=1)


def test_the_first_certificate_of_a_chain_is_the_one_that_the_key_must_fit(
    authority: Authority, pair: Pair
) -> None:
    assert check_pair(pair.certificate + authority.certificate, pair.key).names[0] == "a.example"
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        check_pair(authority.certificate + pair.certificate, pair.key)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 1024),  # noqa: S505  # that it is weak is the point
    ],
    ids=["P-521", "Ed25519", "RSA-1024"],
)
def test_a_key_that_clients_would_not_take_is_refused_before_they_do(
    pair: Pair, key: PrivateKeyTypes
) -> None:
    with pytest.raises(ValueError, match=r"P-256, P-384, or RSA of 2048"):
        check_pair(pair.certificate, pem(key))


def test_an_encrypted_key_is_refused_with_a_fix(pair: Pair) -> None:
    key = load_pem_private_key(pair.key, None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a passphrase"))

    with pytest.raises(ValueError, match="without a passphrase"):
        check_pair(pair.certificate, locked)


@pytest.mark.parametrize("content", [b"", b"no PEM", b"\xff\xfe\x00"])
def test_a_file_that_is_not_pem_is_refused_for_certificate_and_key(pair: Pair, content: bytes) -> None:
    with pytest.raises(ValueError, match="no complete certificate"):
        check_pair(content, pair.key)
    with pytest.raises(ValueError, match="no complete private key"):
        check_pair(pair.certificate, content)
    with pytest.raises(ValueError, match="no complete certificate"):
        check_authorities(content)


def test_no_message_holds_any_part_of_a_key(pair: Pair) -> None:
    body = pair.key.splitlines()[1]
    with pytest.raises(ValueError) as error:  # noqa: PT011  # any message
        check_pair(pair.certificate, pair.key.replace(b"PRIVATE", b"SECRET"))

    assert body.decode()[:16] not in f"{error.value!r} {error.value.__cause__!r}"


def silent() -> bytes:
    """Return a certificate without basic constraints: it does not say whether it may issue others."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1, datetime.now(UTC), datetime.now(UTC) + DAY)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def test_every_certificate_of_a_bundle_of_authorities_must_be_of_one(
    authority: Authority, pair: Pair
) -> None:
    other = Authority("other", lifetime=DAY)

    facts = check_authorities(authority.certificate + other.certificate)
    assert [certificate.names for certificate in facts] == [("CN=test",), ("CN=other",)]
    for stranger in (pair.certificate, silent()):
        with pytest.raises(ValueError, match="not a CA certificate"):
            check_authorities(authority.certificate + stranger)


ODD_NAMES = {
    "an EDI party": "3007a505a1030c0178",
    "an X.400 address": "3002a300",
    "an address of one byte": "300387010a",
    "no names at all": "ff",
}
"""DER values of the extension for alternative names; TLS accepts certificates with some of them."""


@pytest.mark.parametrize("der", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_certificate_whose_names_cannot_be_read_has_none(der: str) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=odd")
    names = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes.fromhex(der))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, *_times()).add_extension(names, False)
    made = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    assert alternative_names(made) == AlternativeNames()
    assert check_pair(made, pem(key)).names == ("CN=odd",)
    with pytest.raises(ValueError, match="is not a CA certificate"):
        check_authorities(made)


def _times() -> tuple[datetime, datetime]:
    return datetime.now(UTC), datetime.now(UTC) + DAY
