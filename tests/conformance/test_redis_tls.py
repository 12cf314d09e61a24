"""Redis over TLS with a CA of the test's own: who is not vouched for is neither believed nor let in."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.domain.ids import new_epoch
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.checks import Demands
from tests.conformance import samples
from tests.redis_server import free_port
from tests.redis_topology import TunedServer

_BEGIN: Final = datetime.now(UTC) - timedelta(hours=1)
_END: Final = _BEGIN + timedelta(days=1)


class Authority:
    """A CA that writes certificate and key of each name into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=True,
                    crl_sign=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, address: str) -> tuple[Path, Path]:
        """Certificate and key for this address."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        certificate = (
            self._builder(subject, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        )
        files = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_BEGIN)
            .not_valid_after(_END)
        )


class Secure:
    """A server that speaks TLS beside plain text, and a client certificate that it accepts."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.authority = Authority(folder, "ca")
        certificate, key = self.authority.issue("server", address)
        self.client = self.authority.issue("client", "127.0.0.1")
        self.port = free_port()
        self.server = TunedServer(
            folder / "data",
            tls_port=str(self.port),
            tls_cert_file=str(certificate),
            tls_key_file=str(key),
            tls_ca_cert_file=str(self.authority.file),
        )

    def url(self, *, authority: Path | None = None, client: tuple[Path, Path] | None = None) -> str:
        certificate, key = client or self.client
        files = (
            f"ssl_ca_certs={authority or self.authority.file}&ssl_certfile={certificate}&ssl_keyfile={key}"
        )
        return f"rediss://127.0.0.1:{self.port}/0?{files}"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    secure = Secure(tmp_path_factory.mktemp("tls"))
    try:
        secure.server.start()
    except RuntimeError as error:
        if "Failed finding TLS support" in str(error):
            pytest.skip("this server was built without TLS; Debian's redis-server has it")
        raise
    yield secure
    secure.server.stop()


def test_the_store_works_over_tls_with_a_client_certificate(secure: Secure) -> None:
    secure.server.flush()
    store = RedisStore.connect(secure.url(), demands=Demands(durability="local"))
    store.initialise(new_epoch())

    samples.deny(store, 3)

    assert store.head().position == 3
    store.close()


def test_a_server_of_another_authority_is_not_believed(secure: Secure, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")

    with pytest.raises(StoreUnavailableError, match="ConnectionError"):
        RedisStore.connect(secure.url(authority=stranger.file))


def test_a_client_of_another_authority_is_not_let_in(secure: Secure, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").issue("client", "127.0.0.1")

    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(secure.url(client=stranger))


@pytest.mark.usefixtures("secure")  # where the server has no TLS there is nothing to see
def test_a_server_whose_certificate_names_another_host_is_not_believed(tmp_path: Path) -> None:
    elsewhere = Secure(tmp_path, address="192.0.2.1")
    elsewhere.server.start()
    try:
        with pytest.raises(StoreUnavailableError, match="ConnectionError"):
            RedisStore.connect(elsewhere.url())
    finally:
        elsewhere.server.stop()


def test_plain_text_is_not_understood_where_tls_is_spoken(secure: Secure) -> None:
    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(f"redis://127.0.0.1:{secure.port}/0", timeout=0.5)


def test_a_file_that_is_not_there_is_said_by_its_option(secure: Secure) -> None:
    with pytest.raises(ConfigurationError, match="ssl_ca_certs names no file"):
        RedisStore.connect(secure.url(authority=Path("/no/such/ca.pem")))
