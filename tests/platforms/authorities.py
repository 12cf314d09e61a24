"""Certificate authorities as Kubernetes clusters have them, with the same extensions. Asserts nothing."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY: Final = timedelta(days=1)
_CA: Final = x509.BasicConstraints(ca=True, path_length=None)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The extensions in the certificates of a cluster's authority."""

    key_usage: bool
    key_identifiers: bool


KUBEADM: Final = Shape(key_usage=True, key_identifiers=True)
"""`NewSelfSignedCACert` and `NewSignedCert` of client-go (util/cert) and kubeadm (app/util/pkiutil), built
with Go 1.15 or newer, whose `x509.CreateCertificate` adds the key identifiers."""
KUBEADM_OLD: Final = Shape(key_usage=True, key_identifiers=False)
"""An authority of kubeadm from before Go 1.15; authorities are valid for ten years."""
EKS: Final = Shape(key_usage=False, key_identifiers=False)
"""A root `CN=kubernetes` whose only extension is `Basic Constraints: critical, CA:TRUE` (awslabs/mcp#3791;
tomplus/kubernetes_asyncio#349; kubernetes-client/python#2394)."""


class ClusterAuthority:
    """A certificate authority, with the file that the cluster mounts into its pods (`ca.crt`)."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._shape = folder, shape
        self._key = rsa.generate_private_key(65537, 2048)
        self._name = _name("kubernetes")
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(_CA, critical=True)
        if shape.key_usage:
            builder = builder.add_extension(_usage(certificates=True), critical=True)
        if shape.key_identifiers:
            builder = builder.add_extension(self._identifier(), critical=False)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.file = folder / "ca.crt"
        self.file.write_bytes(self.pem)

    def server(self) -> ssl.SSLContext:
        """Return the TLS context of a server on 127.0.0.1, with the names of an API server."""
        key = rsa.generate_private_key(65537, 2048)
        builder = _builder(_name("kube-apiserver"), self._name, key.public_key())
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives.append(x509.IPAddress(ip_address("127.0.0.1")))
        builder = (
            builder.add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        )
        if self._shape.key_identifiers:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier())
            builder = builder.add_extension(identifier, critical=False)
        path = self._folder / "apiserver.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
            + builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _identifier(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
