"""Tokens that are bound to a certificate or a key are accepted only from a client that proves it has that."""

import grpc
import pytest

from identity_client import LocalVerifier
from identity_service.domain.ids import base64url
from tests.clients.guard.conftest import Start
from tests.clients.guard.refusals import Refused, bearer, refusal
from tests.clients.guard.reports import Client
from tests.clients.guard.site import Site
from tests.rpc.forging import forger_of
from tests.tls import Certifier, Holder

MISMATCH = Refused("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED", "BINDING_MISMATCH")


def credentials(certifier: Certifier) -> grpc.ServerCredentials:
    """Return the credentials of a server that requires client certificates."""
    server = certifier.server("reports")
    pair = server.key_file.read_bytes(), server.certificate_file.read_bytes()
    return grpc.ssl_server_credentials([pair], certifier.file.read_bytes(), require_client_auth=True)


def bound_token(site: Site, method: str, thumbprint: bytes) -> str:
    token = site.token()
    return forger_of(site.world, token).forge(claims={"cnf": {method: base64url(thumbprint)}})


def over(client: Client, certifier: Certifier, holder: Holder) -> Client:
    """Return a client that presents the certificate of this holder."""
    target = client.target
    return Client(certifier.channel(target, holder), client.reports, client.guard, target)


@pytest.mark.parametrize("method", ["Get", "Follow"])
def test_a_token_that_is_bound_to_a_certificate_needs_it_on_the_connection(
    start: Start, site: Site, verifier: LocalVerifier, method: str
) -> None:
    holder, thief = (site.certifier.client(name, f"{name}.example") for name in ("holder", "thief"))
    metadata = bearer(bound_token(site, "x5t#S256", holder.sha256))

    with start(verifier, credentials=credentials(site.certifier)) as plain:
        assert over(plain, site.certifier, holder).call(method, metadata, b"1")
        assert refusal(lambda: over(plain, site.certifier, thief).call(method, metadata)) == MISMATCH
        assert over(plain, site.certifier, thief).call(method, bearer(site.token()), b"1")


def test_a_token_that_is_bound_to_a_certificate_is_refused_without_tls(client: Client, site: Site) -> None:
    holder = site.certifier.client("holder", "holder.example")

    assert refusal(client.call, "Get", bearer(bound_token(site, "x5t#S256", holder.sha256))) == MISMATCH


@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
def test_a_token_that_is_bound_to_a_key_is_refused(client: Client, site: Site, scheme: str) -> None:
    token = bound_token(site, "jkt", b"k" * 32)

    assert refusal(client.call, "Get", [("authorization", f"{scheme} {token}")]) == MISMATCH
