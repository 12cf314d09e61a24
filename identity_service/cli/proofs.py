"""Client authentication without a secret: by private key, certificate, or a platform's JWT."""

from pathlib import Path

from identity_client import AssertionSigner
from identity_client.credentials import by_assertion, by_certificate, by_federated_token
from identity_service.cli.output import fail
from identityapi.v1 import token_pb2


def client_proof(
    client_id: str | None,
    *,
    assertion_key: Path | None,
    service_issuer: str,
    certificate: bool,
    federated_token_file: Path | None,
) -> token_pb2.Credential | None:
    """Return the credential by the given key, certificate or JWT; None if none of them is given.

    Ends the command with Exit.USAGE if several are given, or if a file cannot be used.
    """
    if sum((assertion_key is not None, certificate, federated_token_file is not None)) > 1:
        fail("give only one of --assertion-key, --certificate and --federated-token-file")
    if certificate:
        return by_certificate()
    try:
        if federated_token_file is not None:
            return by_federated_token(federated_token_file)
        if assertion_key is not None:
            if client_id is None:
                fail("--assertion-key: give the client of the key with --client-id")
            return by_assertion(AssertionSigner.from_file(client_id, assertion_key, audience=service_issuer))
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}")
    except ValueError:
        # The text of the error is not shown: it may contain a part of the secret file.
        content = "JWT" if federated_token_file is not None else "private key (PEM or JWK) that can sign"
        fail(f"{federated_token_file or assertion_key}: contains no {content}")
    return None
