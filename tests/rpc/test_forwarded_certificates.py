"""Clients that present their certificate to a trusted proxy, which forwards it in the metadata of calls."""

import base64
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import token_pb2
from tests.patience import until
from tests.rpc.administrator import fails
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World
from tests.tls import Certifier, Holder, replace

NAME = "reports.example"
TRUSTING = {"trusted_proxies": ("127.0.0.1/32",), "client_certificate_header": "client-cert"}
CERTIFICATE = pb.IssueRequest(
    credential=token_pb2.Credential(client_certificate=token_pb2.ClientCertificate())
)


def client_cert(holder: Holder) -> tuple[str, str]:
    return ("client-cert", f":{base64.b64encode(holder.der).decode()}:")


def issue(channel: grpc.Channel, *metadata: tuple[str, str]) -> str:
    stub = rpc.IdentityServiceStub(channel)
    return str(stub.Issue(CERTIFICATE, metadata=metadata).token_set.access_token)


def refused(channel: grpc.Channel, *metadata: tuple[str, str]) -> str:
    return fails(lambda: issue(channel, *metadata)).reason


def client_of(world: World, holder: Holder, token: str) -> str:
    """Verify a bound token with the certificate of its holder; return the id of its client."""
    request = pb.VerifyRequest(token=token, any_audience=True, certificate_sha256=holder.sha256)
    verified = world.stub.Verify(request, metadata=(client_cert(holder),)).verified
    assert verified.certificate_sha256 == holder.sha256
    return str(verified.client_id)


def test_a_forwarded_certificate_authenticates_its_client_and_binds_the_token(
    start_world: StartWorld, certifier: Certifier
) -> None:
    world = start_world(**TRUSTING, require_caller_auth=True)
    world.new_client(certificates=(f"dns:{NAME}",), scopes=("identity.verify", "read"))
    holder = certifier.client("c", NAME)

    token = issue(world.channel, client_cert(holder))

    assert client_of(world, holder, token) == "reports"


def test_a_peer_that_is_no_trusted_proxy_is_not_believed(
    start_world: StartWorld, certifier: Certifier
) -> None:
    world = start_world(**(TRUSTING | {"trusted_proxies": ("10.0.0.1",)}))
    world.new_client(certificates=(f"dns:{NAME}",))

    assert refused(world.channel, client_cert(certifier.client("c", NAME))) == "CREDENTIAL_REFUSED"


@pytest.mark.parametrize("header", ["x-forwarded-client-cert", "client-cert-bin", "x-client-cert"])
def test_only_the_chosen_header_is_believed(
    start_world: StartWorld, certifier: Certifier, header: str
) -> None:
    world = start_world(**TRUSTING)
    world.new_client(certificates=(f"dns:{NAME}",))
    holder = certifier.client("c", NAME)
    pem = quote(holder.certificate_file.read_text(), safe="")
    value = f'Cert="{pem}"' if header.startswith("x-") else client_cert(holder)[1]

    sent = (header, value.encode() if header.endswith("-bin") else value)
    assert refused(world.channel, sent) == "CREDENTIAL_REFUSED"  # type: ignore[arg-type]  # of -bin


def test_two_certificates_prove_no_client(start_world: StartWorld, certifier: Certifier) -> None:
    world = start_world(**TRUSTING)
    world.new_client(certificates=(f"dns:{NAME}",))
    own, victim = certifier.client("own", "own.example"), certifier.client("c", NAME)

    for sent in ((own, victim), (victim, own), (victim, victim)):
        assert refused(world.channel, *map(client_cert, sent)) == "CREDENTIAL_REFUSED"


@pytest.mark.in_process
def test_envoys_header_is_believed_if_it_is_chosen(start_world: StartWorld, certifier: Certifier) -> None:
    world = start_world(**(TRUSTING | {"client_certificate_header": "x-forwarded-client-cert"}))
    world.new_client(certificates=(f"dns:{NAME}",))
    own, holder = certifier.client("own", "own.example"), certifier.client("c", NAME)
    first, last = (
        f'Hash=00;Cert="{quote(shown.certificate_file.read_text(), safe="")}"' for shown in (own, holder)
    )

    assert issue(world.channel, ("x-forwarded-client-cert", f"{first},{last}"))
    assert refused(world.channel, ("x-forwarded-client-cert", f"{last},{first}")) == "CREDENTIAL_REFUSED"
    assert refused(world.channel, client_cert(holder)) == "CREDENTIAL_REFUSED"


def test_a_proxy_with_a_certificate_does_not_lend_it_to_its_clients(
    start_world: StartWorld, certifier: Certifier
) -> None:
    world = start_world(**certifier.server().settings(tls_client_ca=certifier.file), **TRUSTING)
    world.new_client("proxy", certificates=("dns:proxy.example",))
    world.new_client(certificates=(f"dns:{NAME}",))
    holder = certifier.client("c", NAME)

    with certifier.channel(world.target, certifier.client("proxy", "proxy.example")) as channel:
        assert refused(channel) == "CREDENTIAL_REFUSED"
        assert issue(channel, client_cert(holder))


def test_a_forwarded_certificate_must_be_of_the_client_authorities_of_today(
    start_world: StartWorld, certifier: Certifier, tmp_path: Path
) -> None:
    other = Certifier(tmp_path / "other", "other")
    authorities = tmp_path / "clients.pem"
    replace(authorities, certifier.file.read_bytes())
    world = start_world(**certifier.server().settings(tls_client_ca=authorities), **TRUSTING)
    world.new_client(certificates=(f"dns:{NAME}",))
    old, new = client_cert(certifier.client("old", NAME)), client_cert(other.client("new", NAME))

    with certifier.channel(world.target, certifier.client("proxy", "proxy.example")) as channel:
        assert issue(channel, old)
        assert refused(channel, new) == "CREDENTIAL_REFUSED"

        replace(authorities, certifier.file.read_bytes() + other.file.read_bytes())
        until(lambda: _is_issued(channel, new))
        replace(authorities, other.file.read_bytes())
        until(lambda: not _is_issued(channel, old))


def _is_issued(channel: grpc.Channel, sent: tuple[str, str]) -> bool:
    try:
        return bool(issue(channel, sent))
    except grpc.RpcError:
        return False
