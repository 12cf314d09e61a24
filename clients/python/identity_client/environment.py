"""The settings of a client in environment variables. No other module of the SDK reads them.

| variable | meaning |
|---|---|
| `IDENTITY_TARGET` | host:port of the service; default 127.0.0.1:50051 |
| `IDENTITY_ISSUER` | the issuer of the tokens; several are separated by commas. Default: identity-service |
| `IDENTITY_CA` | a PEM file with the authorities that issue the service's certificate |
| `IDENTITY_TLS` | 1 = TLS with the root certificates of gRPC, even on loopback |
| `IDENTITY_ALLOW_PLAINTEXT` | 1 = no TLS to another machine either, if no other variable asks for it |
| `IDENTITY_CERT`, `IDENTITY_KEY` | the client's certificate and its private key, PEM files |
| `IDENTITY_CLIENT_ID` | the client |
| `IDENTITY_CLIENT_SECRET` or `IDENTITY_CLIENT_SECRET_FILE` | its secret, or the file that holds it |
| `IDENTITY_PRIVATE_KEY_FILE` | its private key for assertions (RFC 7523), PEM or JWK |
| `IDENTITY_FEDERATED_TOKEN_FILE` | a JWT of a trusted issuer, such as a Kubernetes service account token |
| `IDENTITY_SERVICE_AUDIENCE` | the audience of tokens for the service itself; default identity-service |

They are those of the command line `identity`, where that has the same setting. `IDENTITY_CA_FILE`,
`IDENTITY_CERTIFICATE_FILE` and `IDENTITY_KEY_FILE` are accepted for `IDENTITY_CA`, `IDENTITY_CERT` and
`IDENTITY_KEY`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from identity_client import credentials
from identity_client.assertions import SERVICE_ISSUER, AssertionSigner
from identity_client.options import ClientOptions
from identity_client.tls import TlsOptions
from identity_client.transport import tls_by_default
from identityapi.v1 import token_pb2

SERVICE_AUDIENCE: Final = "identity-service"
"""The default of the setting `service_audience`: the audience of tokens for calls to the service itself."""
VERIFY: Final = "identity.verify"
"""The scope that calls of Verify and Watch need if the service has `require_caller_auth` or TLS."""
DEFAULT_TARGET: Final = "127.0.0.1:50051"
_CREDENTIALS: Final = (
    "IDENTITY_CLIENT_SECRET, IDENTITY_CLIENT_SECRET_FILE, IDENTITY_PRIVATE_KEY_FILE, "
    "IDENTITY_FEDERATED_TOKEN_FILE, or IDENTITY_CERT with IDENTITY_KEY"
)
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("", "0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCredential:
    """The credential that the environment names."""

    make: Callable[[], token_pb2.Credential] = field(repr=False)
    """A function that returns the credential, and reads it from its file again at each call."""
    once: bool = False
    """True if the service accepts each one that `make` returns only once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The settings of a client; `read` reads them from environment variables."""

    target: str = DEFAULT_TARGET
    """host:port of the service."""
    issuers: tuple[str, ...] = (SERVICE_ISSUER,)
    """The issuers whose tokens are accepted, at least one; the first is the service at `target`."""
    service_audience: str = SERVICE_AUDIENCE
    """The audience of tokens for the service itself."""
    ca_file: Path | None = None
    """The authorities that issue the service's certificate; None = the roots of gRPC."""
    tls: bool = False
    """True = TLS also on loopback and without `ca_file`."""
    allow_plaintext: bool = False
    """True = no TLS to another machine either, if nothing else asks for it."""
    certificate_file: Path | None = None
    """The file that holds the client's certificate."""
    key_file: Path | None = None
    """The file that holds the private key of `certificate_file`."""
    client_id: str = ""
    """The client; empty for a certificate and a federated token, which name it themselves."""
    secret: str | None = field(default=None, repr=False)
    """The client's secret."""
    secret_file: Path | None = None
    """The file that holds the client's secret."""
    private_key_file: Path | None = None
    """The file that holds the client's private key for assertions."""
    federated_token_file: Path | None = None
    """The file that holds the JWT of a trusted issuer."""

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the variables; an empty one counts as absent.

        Args:
            environ: the variables; None = those of this process.

        Raises ValueError, with the name of the variable, if it is malformed or contradicts another one.
        """
        values = _Variables(os.environ if environ is None else environ)
        certificate = values.path("IDENTITY_CERT", "IDENTITY_CERTIFICATE_FILE")
        key = values.path("IDENTITY_KEY", "IDENTITY_KEY_FILE")
        if (certificate is None) != (key is None):
            raise ValueError("set IDENTITY_CERT and IDENTITY_KEY together, or neither")
        issuers = [name.strip() for name in values.text("IDENTITY_ISSUER").split(",")]
        found = cls(
            target=values.text("IDENTITY_TARGET") or DEFAULT_TARGET,
            issuers=tuple(filter(None, issuers)) or (SERVICE_ISSUER,),
            service_audience=values.text("IDENTITY_SERVICE_AUDIENCE") or SERVICE_AUDIENCE,
            ca_file=values.path("IDENTITY_CA", "IDENTITY_CA_FILE"),
            tls=values.flag("IDENTITY_TLS"),
            allow_plaintext=values.flag("IDENTITY_ALLOW_PLAINTEXT"),
            certificate_file=certificate,
            key_file=key,
            client_id=values.text("IDENTITY_CLIENT_ID"),
            secret=values.text("IDENTITY_CLIENT_SECRET") or None,
            secret_file=values.path("IDENTITY_CLIENT_SECRET_FILE"),
            private_key_file=values.path("IDENTITY_PRIVATE_KEY_FILE"),
            federated_token_file=values.path("IDENTITY_FEDERATED_TOKEN_FILE"),
        )
        if found.target.startswith(("http://", "https://")):
            raise ValueError("IDENTITY_TARGET is a URL: set it to host:port of the gRPC service")
        if len(found._named()) > 1:
            raise ValueError(f"set only one of {' and '.join(found._named())}")
        if found._needs_client_id() and not found.client_id:
            raise ValueError(f"set IDENTITY_CLIENT_ID to the client of {found._named()[0]}")
        return found

    @property
    def has_sign_in(self) -> bool:
        """Return whether the environment names a credential other than a certificate."""
        return bool(self._named())

    def credential(self) -> NamedCredential:
        """Return the credential. Raises ValueError if there is none.

        A certificate counts as the credential only without any other, which it may accompany.
        """
        if self.secret is not None:
            secret = self.secret
            return NamedCredential(make=lambda: credentials.by_secret(self.client_id, secret))
        if (path := self.secret_file) is not None:
            return NamedCredential(
                make=lambda: credentials.by_secret(self.client_id, credentials.read_secret(path))
            )
        if (key := self.private_key_file) is not None:
            issuer = self.issuers[0]
            return NamedCredential(
                make=lambda: credentials.by_assertion(
                    AssertionSigner.from_file(self.client_id, key, audience=issuer)
                ),
                once=True,
            )
        if (token := self.federated_token_file) is not None:
            return NamedCredential(make=lambda: credentials.by_federated_token(token))
        if self.certificate_file is not None:
            return NamedCredential(make=credentials.by_certificate)
        raise ValueError(f"the environment names no credential: set one of {_CREDENTIALS}")

    def options(self, *, allow_plaintext: bool = False) -> ClientOptions:
        """Return the options of a connection to `target`: with TLS, unless that is this machine.

        `allow_plaintext`: whether to do without TLS to another machine, if no variable asks for TLS.
        """
        allowed = allow_plaintext or self.allow_plaintext
        tls = tls_by_default(self.target, self._tls(), allow_plaintext=allowed)
        return ClientOptions(tls=tls, allow_plaintext=allowed)

    def _tls(self) -> TlsOptions | None:
        if not self.tls and self.ca_file is None and self.certificate_file is None:
            return None
        return TlsOptions(
            ca_file=self.ca_file, certificate_file=self.certificate_file, key_file=self.key_file
        )

    def _named(self) -> list[str]:
        """Return the variables of the credentials that are set, without the certificate."""
        named = {
            "IDENTITY_CLIENT_SECRET": self.secret,
            "IDENTITY_CLIENT_SECRET_FILE": self.secret_file,
            "IDENTITY_PRIVATE_KEY_FILE": self.private_key_file,
            "IDENTITY_FEDERATED_TOKEN_FILE": self.federated_token_file,
        }
        return [name for name, value in named.items() if value is not None]

    def _needs_client_id(self) -> bool:
        return bool(self._named()) and self.federated_token_file is None


class _Variables:
    """Reads variables, of which an empty one counts as absent."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, *names: str) -> str:
        """Return the value, which may have several names. Raises ValueError if they have different ones."""
        found = {name: value for name in names if (value := self._environ.get(name, "").strip())}
        if len(set(found.values())) > 1:
            raise ValueError(f"{' and '.join(found)} are the same setting, but differ: set one of them")
        return next(iter(found.values()), "")

    def path(self, *names: str) -> Path | None:
        text = self.text(*names)
        return Path(text) if text else None

    def flag(self, name: str) -> bool:
        text = self.text(name).lower()
        if text not in (*_YES, *_NO):
            raise ValueError(f"{name}={text} is neither yes nor no: set it to 1 or 0")
        return text in _YES
