"""Passes certificates to Envoy in files of secrets (SDS) that it watches; each is replaced atomically.

The files hold the private key in clear, as the operator's file does. Only the user of this process can enter
their directory.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any, Final

from identity_service.transport.tls import Certificates, Content

SERVER: Final = "server"
AUTHORITIES: Final = "authorities"
_SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  # a type's name
_INTERVAL: Final = 0.25
"""Seconds between two checks of the operator's files."""


def secret_source(directory: Path, name: str) -> dict[str, Any]:
    """Return the configuration that tells Envoy where a secret is (SdsSecretConfig)."""
    source = {"path_config_source": {"path": str(_file(directory, name))}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def hand_over(content: Content, directory: Path) -> None:
    """Write the certificate, key and client authorities that Envoy uses for new connections."""
    pair = {"certificate_chain": _text(content.certificate), "private_key": _text(content.key)}
    _write(directory, SERVER, {"tls_certificate": pair})
    if content.client_ca is not None:
        authorities = {"trusted_ca": _text(content.client_ca)}
        _write(directory, AUTHORITIES, {"validation_context": authorities})


def keep_handing_over(certificates: Certificates, directory: Path, stopping: threading.Event) -> None:
    """Hand over the certificates whenever the operator's files have changed, until `stopping` is set."""
    given: Content | None = None
    while not stopping.wait(_INTERVAL):
        latest = certificates.latest()
        if latest is not given:
            hand_over(latest, directory)
            given = latest


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


def _text(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode("ascii")}


def _write(directory: Path, name: str, secret: dict[str, Any]) -> None:
    """Write a secret to a new file, and rename it to its place: Envoy watches for renames."""
    resource = {"@type": _SECRET, "name": name, **secret}
    made = directory / f"{name}.new"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"resources": [resource]}, file)
    made.replace(_file(directory, name))
