"""Checks the TLS options of a command before its call: gRPC's own errors name no file and no option."""

from datetime import UTC, datetime
from pathlib import Path

from identity_client import TlsOptions
from identity_client.transport import may_be_plaintext
from identity_service.cli.output import fail, say
from identity_service.jose.certificates import CertificateFacts, certificates_in, check_pair


def tls_options(
    target: str, *, tls: bool, ca: Path | None, cert: Path | None, key: Path | None, allow_plaintext: bool
) -> TlsOptions | None:
    """Return the TLS options of a connection, or None without TLS.

    Ends the command with Exit.USAGE if a file cannot be used, or there is no TLS to another machine and
    `allow_plaintext` does not permit that. Warns if a certificate has expired.
    """
    if ca is not None:
        try:
            _warn_if_expired(ca, *certificates_in(_read("--ca (IDENTITY_CA)", ca)))
        except ValueError as error:
            fail(f"--ca (IDENTITY_CA): {ca}: {error}")
    if (cert is None) != (key is None):
        fail("give --cert and --key (IDENTITY_CERT, IDENTITY_KEY) together")
    if cert is not None and key is not None:
        pair = _read("--cert (IDENTITY_CERT)", cert), _read("--key (IDENTITY_KEY)", key)
        try:
            _warn_if_expired(cert, check_pair(*pair))
        except ValueError as error:
            fail(f"--cert, --key (IDENTITY_CERT, IDENTITY_KEY): {cert}, {key}: {error}")
    if tls or ca or cert:
        return TlsOptions(ca_file=ca, certificate_file=cert, key_file=key)
    if not may_be_plaintext(target, allow_plaintext=allow_plaintext):
        fail(
            f"{target} is not an address of this machine, and without TLS any host in between could read the "
            "secrets and tokens: give --tls (IDENTITY_TLS=1), or the service's own authority with --ca "
            "(IDENTITY_CA); for a service without TLS, give --allow-plaintext (IDENTITY_ALLOW_PLAINTEXT=1)"
        )
    return None


def expiry(file: Path | None, certificate: CertificateFacts) -> str:
    """Return a clause that names a certificate and the time at which it expired."""
    return f"{file} ({', '.join(certificate.names)}) expired on {certificate.expire_time:%F %T} UTC"


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{option}: cannot read {path}: {error.strerror}")


def _warn_if_expired(path: Path, *certificates: CertificateFacts) -> None:
    for certificate in certificates:
        if certificate.expire_time <= datetime.now(UTC):
            say(f"identity: {expiry(path, certificate)}; replace the file")
