"""How a client proves itself to a command without a secret: by its key, its certificate, a platform's JWT."""

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
    """How a client proves itself that shows no secret, or None."""
    if sum((assertion_key is not None, certificate, federated_token_file is not None)) > 1:
        fail("give one of --assertion-key, --certificate and --federated-token-file", Exit.USAGE)
    if certificate:
        return IdentityClient.issue_with_certificate
    try:
        if federated_token_file is not None:
            token = federated_token_file.read_text(encoding="utf-8").strip()
            return partial(_by_federated_token, token)
        if assertion_key is not None:
            if client_id is None:
                fail("--assertion-key: name whose key it is: --client-id", Exit.USAGE)
            return partial(
                _by_assertion, AssertionSigner.from_file(client_id, assertion_key, audience=service_issuer)
            )
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}", Exit.USAGE)
    except ValueError:
        # Not the text of the error: it may hold a part of the file.
        fail("the file holds no JWT, or no private key that can sign", Exit.USAGE)
    return None


def _by_assertion(signer: AssertionSigner, client: IdentityClient, **wanted: Any) -> TokenSet:
    return client.issue_with_assertion(signer, **wanted)


def _by_federated_token(token: str, client: IdentityClient, **wanted: Any) -> TokenSet:
    return client.issue_with_federated_token(token, **wanted)
