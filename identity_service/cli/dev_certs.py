"""`identity dev-certs`, which `make dev-certs` calls: certificates for trying TLS on one machine.

Every run creates a new certificate authority and discards its key, so that it can never issue another one.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from identity_service.cli.output import say
from identity_service.cli.private_files import write_private
from identity_service.domain.errors import ConfigurationError
from identity_service.jose.authority import Authority

_FOLDER: Final = Path("var/tls")
_LIFETIME: Final = timedelta(days=30)
_HOSTS: Final = ("localhost", "127.0.0.1", "::1")


def dev_certs(
    folder: Annotated[Path, typer.Option(help="Folder to write to; existing files are replaced.")] = _FOLDER,
    client_name: Annotated[
        str, typer.Option(help="Name in the client certificate: a host, or a spiffe://… id.")
    ] = "demo.localhost",
) -> None:
    """Create a CA, a server and a client certificate for this machine, valid for 30 days."""
    authority = Authority("identity-service development", lifetime=_LIFETIME)
    server = authority.issue("server", names=_HOSTS, lifetime=_LIFETIME, server=True)
    client = authority.issue("client", names=(client_name,), lifetime=_LIFETIME, client=True)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "ca.pem").write_bytes(authority.certificate)
        for name, pair in (("server", server), ("client", client)):
            (folder / f"{name}.pem").write_bytes(pair.certificate)
            write_private(folder / f"{name}.key", pair.key.decode())
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror}") from error
    _explain(folder, client_name)


def _explain(folder: Path, client_name: str) -> None:
    identity = Path(sys.executable).parent / "identity"
    if identity.is_relative_to(Path.cwd()):
        identity = identity.relative_to(Path.cwd())
    name = client_name if "://" in client_name else f"dns:{client_name}"
    say(
        f"""Wrote ca.pem, server.pem, server.key, client.pem and client.key to {folder}.
They are valid for {_LIFETIME.days} days.

Serve with them; port 50051 requests no client certificate, port 50052 requires one:
  IDENTITY_TLS_CERTIFICATE={folder}/server.pem IDENTITY_TLS_KEY={folder}/server.key \\
  IDENTITY_TLS_CLIENT_CA={folder}/ca.pem IDENTITY_MTLS_LISTEN=127.0.0.1:50052 \\
    {identity} serve --dev

Call the service as ana, with the password in var/demo.json:
  {identity} token issue --ca {folder}/ca.pem --username ana

Create a client that authenticates by the certificate, without a secret:
  {identity} client create by-certificate --no-secret --certificate {name} \\
    --scope identity.verify --audience identity-service --ca {folder}/ca.pem

Get a token by the certificate:
  {identity} token issue --certificate --target 127.0.0.1:50052 --ca {folder}/ca.pem \\
    --cert {folder}/client.pem --key {folder}/client.key"""
    )
