"""Clients' certificates from a proxy are verified by the same rules as in a TLS handshake."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from identity_service.jose.client_chains import is_of, pem_of_der, pem_of_text

Extensions = Sequence[tuple[x509.ExtensionType, bool]]
KEY = ec.generate_private_key(ec.SECP256R1())
CA = x509.BasicConstraints(ca=True, path_length=None)
NO_CA = x509.BasicConstraints(ca=False, path_length=None)
FOR_CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
EDI_PARTY = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.17"), bytes.fromhex("3008a506810474657374"))


def usage(**on: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**(dict.fromkeys(names, False) | on))


def certificate(name: str, extensions: Extensions, *, issuer: str = "ca", expired: bool = False) -> bytes:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=-1 if expired else 1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


AUTHORITY = certificate("ca", [(CA, True)])


@pytest.mark.parametrize(
    "extensions",
    [
        [(NO_CA, True)],
        [(FOR_CLIENTS, False)],
        [(usage(digital_signature=True), True), (FOR_CLIENTS, False)],
        [(usage(key_agreement=True), True)],
    ],
)
def test_a_client_needs_neither_a_name_nor_an_authority_with_a_key_usage(extensions: Extensions) -> None:
    """OpenSSL makes such certificates by default."""
    assert is_of(certificate("client", extensions), AUTHORITY)


@pytest.mark.parametrize(
    "extensions",
    [
        [(FOR_SERVERS, False)],
        [(usage(key_encipherment=True), True)],
        [(UNKNOWN, True)],
        [(EDI_PARTY, False)],
    ],
)
def test_a_certificate_that_is_not_for_clients_or_cannot_be_read_is_refused(extensions: Extensions) -> None:
    assert not is_of(certificate("client", extensions), AUTHORITY)


@pytest.mark.parametrize(
    "authority",
    [
        certificate("ca", [(NO_CA, True)]),
        certificate("ca", [(usage(key_cert_sign=True), True)]),
        certificate("ca", [(CA, True), (usage(digital_signature=True), True)]),
        certificate("ca", [(CA, True), (FOR_SERVERS, False)]),
        certificate("ca", [(CA, True)], expired=True),
        certificate("another", [(CA, True)], issuer="another"),
    ],
)
def test_an_authority_that_may_not_sign_for_clients_is_refused(authority: bytes) -> None:
    client = certificate("client", [(FOR_CLIENTS, False)])

    assert is_of(client, AUTHORITY)
    assert not is_of(client, authority)


def test_an_intermediate_among_the_authorities_needs_no_root() -> None:
    intermediate = certificate("ca", [(CA, True)], issuer="root")

    assert is_of(certificate("client", [(FOR_CLIENTS, False)]), intermediate)


def test_the_text_of_one_certificate_is_read_and_that_of_several_is_not() -> None:
    der = x509.load_pem_x509_certificate(AUTHORITY).public_bytes(Encoding.DER)

    assert pem_of_text(b"a comment\n" + AUTHORITY) == pem_of_der(der) == AUTHORITY
    for wrong in (AUTHORITY + AUTHORITY, b"", b"\xff"):
        with pytest.raises(ValueError, match=r".+"):
            pem_of_text(wrong)
    with pytest.raises(ValueError, match=r".+"):
        pem_of_der(der + b"\0")
