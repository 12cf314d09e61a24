"""Client authentication without a secret: by private key, certificate, or a platform's JWT."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from identity_client import AssertionSigner, IdentityClient, TokenSet
from identity_service.cli.output import Exit, fail


def client_proof(
    client_id: str | None,
    *,
    assertion_key: Path | None,
    service_issuer: str,
    certificate: bool,
    federated_token_file: Path | None,
) -> Callable[..., TokenSet] | None:
    """Return the call that gets tokens by the given key, certificate or JWT; None if none of them is given.

    Ends the command with Exit.USAGE if several are given, or if a file cannot be used.
    """
    if sum((assertion_key is not None, certificate, federated_token_file is not None)) > 1:
        fail("give only one of --assertion-key, --certificate and --federated-token-file", Exit.USAGE)
    if certificate:
        return IdentityClient.issue_with_certificate
    try:
        if federated_token_file is not None:
            token = federated_token_file.read_text(encoding="utf-8").strip()
            return partial(_by_federated_token, token)
        if assertion_key is not None:
            if client_id is None:
                fail("--assertion-key: give the client of the key with --client-id", Exit.USAGE)
            return partial(
                _by_assertion, AssertionSigner.from_file(client_id, assertion_key, audience=service_issuer)
            )
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}", Exit.USAGE)
    except ValueError:
        # The text of the error is not shown: it may contain a part of the secret file.
        content = "JWT" if federated_token_file is not None else "private key (PEM or JWK) that can sign"
        fail(f"{federated_token_file or assertion_key}: contains no {content}", Exit.USAGE)
    return None


def _by_assertion(signer: AssertionSigner, client: IdentityClient, **wanted: Any) -> TokenSet:
    return client.issue_with_assertion(signer, **wanted)


def _by_federated_token(token: str, client: IdentityClient, **wanted: Any) -> TokenSet:
    return client.issue_with_federated_token(token, **wanted)
