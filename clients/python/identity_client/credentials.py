"""Credential messages, for `IdentityClient.refresh`, `exchange` and `issue`."""

from collections.abc import Callable
from pathlib import Path

from identityapi.v1 import token_pb2


def by_secret(client_id: str, client_secret: str) -> token_pb2.Credential:
    """Return the credential of a client by its id and secret."""
    return token_pb2.Credential(
        client_secret=token_pb2.ClientSecret(client_id=client_id, client_secret=client_secret)
    )


def by_password(
    username: str, password: str, *, client_id: str | None = None, client_secret: str | None = None
) -> token_pb2.Credential:
    """Return the credential of a user by username and password.

    `client_id` is the client through which the user signs in, None = the built-in one; `client_secret` is the
    secret of that client, if it has one.
    """
    return token_pb2.Credential(
        password=token_pb2.Password(
            username=username,
            password=password,
            client_id=client_id or "",
            client_secret=client_secret or "",
        )
    )


def by_assertion(signer: Callable[[], str]) -> token_pb2.Credential:
    """Return the credential of a client by a new assertion (RFC 7523); the service accepts it once."""
    return token_pb2.Credential(client_assertion=token_pb2.ClientAssertion(jwt=signer()))


def by_certificate() -> token_pb2.Credential:
    """Return the credential of the client whose certificate the connection shows (RFC 8705)."""
    return token_pb2.Credential(client_certificate=token_pb2.ClientCertificate())


def by_federated_token(token: str | Path) -> token_pb2.Credential:
    """Return the credential for a JWT of a trusted issuer, or for the JWT in a file.

    Raises the errors of `read_secret`.
    """
    return token_pb2.Credential(federated_token=token_pb2.FederatedToken(jwt=read_secret(token)))


def read_secret(value: str | Path) -> str:
    """Return a secret, or the content of its file without white space around it.

    Raises OSError if the file cannot be read, ValueError if it is not a text file.
    """
    if isinstance(value, str):
        return value
    try:
        return value.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{value}: is not a text file") from None  # its error holds the content, a secret
