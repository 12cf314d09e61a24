"""Credentials as messages: for `IdentityClient.refresh`, and for requests of the caller's own making."""

from collections.abc import Callable
from pathlib import Path

from identityapi.v1 import token_pb2


def by_secret(client_id: str, client_secret: str) -> token_pb2.Credential:
    """A client's id and secret."""
    return token_pb2.Credential(
        client_secret=token_pb2.ClientSecret(client_id=client_id, client_secret=client_secret)
    )


def by_password(
    username: str, password: str, *, client_id: str | None = None, client_secret: str | None = None
) -> token_pb2.Credential:
    """A person's username and password, and the client through which the person signs in."""
    return token_pb2.Credential(
        password=token_pb2.Password(
            username=username,
            password=password,
            client_id=client_id or "",
            client_secret=client_secret or "",
        )
    )


def by_assertion(signer: Callable[[], str]) -> token_pb2.Credential:
    """A fresh assertion of the client; it proves something once."""
    return token_pb2.Credential(client_assertion=token_pb2.ClientAssertion(jwt=signer()))


def by_certificate() -> token_pb2.Credential:
    """The certificate of the connection."""
    return token_pb2.Credential(client_certificate=token_pb2.ClientCertificate())


def by_federated_token(token: str | Path) -> token_pb2.Credential:
    """The JWT of a trusted issuer, or the file that holds it. Raises OSError."""
    text = token.read_text(encoding="utf-8").strip() if isinstance(token, Path) else token
    return token_pb2.Credential(federated_token=token_pb2.FederatedToken(jwt=text))
