"""Callers that authenticate themselves by a client certificate, over real TLS handshakes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import quote

import grpc
import pytest

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import token_pb2
from tests.patience import until
from tests.rpc.conftest import StartWorld
from tests.rpc.world import Failure, World, bearer, failure
from tests.tls import Certifier, Holder

SPIFFE = "spiffe://example.org/ns/prod/sa/reports"
CERTIFICATE = token_pb2.Credential(client_certificate=token_pb2.ClientCertificate())

Connect = Callable[..., World]


@pytest.fixture
def connect(mutual: World, certifier: Certifier) -> Iterator[Connect]:
    """A function that connects to the service with a client certificate."""
    with ExitStack() as cleanup:

        def connect(holder: Holder) -> World:
            channel = cleanup.enter_context(certifier.channel(mutual.target, holder))
            return replace(mutual, channel=channel)

        yield connect


def caller(world: World) -> str:
    """Return the reason why Verify refuses the caller, or "" if it does not."""
    try:
        world.verify("no.such.token")
    except grpc.RpcError as error:
        return failure(error).reason
    return ""


def verifier(world: World, *certificates: str, client_id: str = "reports") -> None:
    world.new_client(client_id, certificates=certificates, scopes=("identity.verify",))


@pytest.mark.parametrize(
    "registered",
    [SPIFFE, "SPIFFE://Example.ORG/ns/prod/sa/reports", "dns:reports.example", "dns:Reports.Example"],
)
def test_a_name_in_the_certificate_proves_the_client_that_registered_it(
    mutual: World, connect: Connect, certifier: Certifier, registered: str
) -> None:
    verifier(mutual, registered)

    assert caller(connect(certifier.client("c", SPIFFE, "Reports.Example", "other.example"))) == ""


def test_the_certificate_itself_may_be_registered_by_its_thumbprint(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    holder, another = certifier.client("c", "x.example"), certifier.client("d", "x.example")
    verifier(mutual, holder.thumbprint)

    assert caller(connect(holder)) == ""
    assert caller(connect(another)) == "CALLER_UNAUTHENTICATED"


def test_an_unregistered_certificate_proves_no_client(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    verifier(mutual, SPIFFE)

    assert caller(connect(certifier.client("c", f"{SPIFFE}2", "reports"))) == "CALLER_UNAUTHENTICATED"


@pytest.mark.parametrize("name", ["*.example", "reports.example.", " reports.example"])
def test_a_pattern_or_another_spelling_proves_no_client(
    mutual: World, connect: Connect, certifier: Certifier, name: str
) -> None:
    verifier(mutual, "dns:reports.example")

    assert caller(connect(certifier.client("c", name))) == "CALLER_UNAUTHENTICATED"


def test_a_uri_that_is_no_spiffe_id_proves_no_client(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    verifier(mutual, "dns:reports.example")

    assert caller(connect(certifier.client("c", "https://reports.example/"))) == "CALLER_UNAUTHENTICATED"


def test_a_certificate_with_two_uris_is_no_spiffe_identity(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    verifier(mutual, SPIFFE)

    assert caller(connect(certifier.client("c", SPIFFE, "https://x.example"))) == "CALLER_UNAUTHENTICATED"


def test_a_certificate_whose_names_are_of_two_clients_proves_neither(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    verifier(mutual, SPIFFE)
    verifier(mutual, "dns:reports.example", client_id="other")

    assert caller(connect(certifier.client("c", SPIFFE, "reports.example"))) == "CALLER_UNAUTHENTICATED"
    assert caller(connect(certifier.client("d", SPIFFE))) == ""


def test_a_client_that_is_disabled_is_proven_by_no_certificate(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    principal = mutual.new_client(certificates=(SPIFFE,), scopes=("identity.verify",))
    connected = connect(certifier.client("c", SPIFFE))
    assert caller(connected) == ""

    mutual.disable_client(principal)

    until(lambda: caller(connected) == "CALLER_UNAUTHENTICATED")


def test_the_client_needs_the_scope_of_the_method(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    mutual.new_client(certificates=(SPIFFE,), scopes=("read",))

    assert caller(connect(certifier.client("c", SPIFFE))) == "CALLER_SCOPE_MISSING"


def test_a_token_outweighs_the_certificate(mutual: World, connect: Connect, certifier: Certifier) -> None:
    verifier(mutual, SPIFFE)
    connected = connect(certifier.client("c", SPIFFE))
    request = pb.VerifyRequest(token="t", any_audience=True)

    with pytest.raises(grpc.RpcError) as error:
        connected.stub.Verify(request, metadata=bearer("no.such.token"))

    assert failure(error.value).reason == "CALLER_UNAUTHENTICATED"


def test_every_call_of_a_connection_is_proven_anew(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    connected = connect(certifier.client("c", SPIFFE))
    assert caller(connected) == "CALLER_UNAUTHENTICATED"

    verifier(mutual, SPIFFE)

    until(lambda: caller(connected) == "")


# The credential


def issue(world: World, **fields: object) -> token_pb2.TokenSet:
    return world.stub.Issue(pb.IssueRequest(credential=CERTIFICATE, **fields)).token_set  # type: ignore[arg-type]


def refused(world: World) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        issue(world)
    return failure(error.value)


def test_a_certificate_is_exchanged_for_a_token_of_its_client(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    mutual.new_client(certificates=(SPIFFE,))
    verifier(mutual, "dns:checks.example", client_id="checks")
    holder = certifier.client("c", SPIFFE)

    token = issue(connect(holder), scopes=["read"]).access_token

    checks = connect(certifier.client("d", "checks.example"))
    verified = checks.verify(token, certificate_sha256=holder.sha256).verified
    assert (verified.subject, verified.client_id, list(verified.scopes)) == ("reports", "reports", ["read"])


def test_a_certificate_that_proves_no_client_is_refused_like_a_wrong_secret(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    principal = mutual.new_client("gone", certificates=("dns:gone.example",))
    mutual.disable_client(principal)

    unknown = refused(connect(certifier.client("c", SPIFFE)))
    disabled = refused(connect(certifier.client("d", "gone.example")))

    assert unknown.code is grpc.StatusCode.UNAUTHENTICATED
    assert (unknown.reason, unknown.message) == ("CREDENTIAL_REFUSED", "the credential was refused")
    assert (disabled.reason, disabled.message) == (unknown.reason, unknown.message)


def test_without_tls_there_is_no_certificate_to_prove_anything(start_world: StartWorld) -> None:
    world = start_world()
    world.new_client(certificates=(SPIFFE,))

    assert refused(world).reason == "CREDENTIAL_REFUSED"


def test_a_certificate_proves_no_client_on_the_port_that_requests_none(
    start_world: StartWorld, certifier: Certifier
) -> None:
    second = "127.0.0.1:0"
    world = start_world(**certifier.server().settings(tls_client_ca=certifier.file, mtls_listen=second))
    verifier(world, SPIFFE)

    with certifier.channel(world.target, certifier.client("c", SPIFFE)) as channel:
        with pytest.raises(grpc.RpcError) as error:
            rpc.IdentityServiceStub(channel).Issue(pb.IssueRequest(credential=CERTIFICATE))
        assert failure(error.value).reason == "CREDENTIAL_REFUSED"
        assert caller(replace(world, channel=channel)) == "CALLER_UNAUTHENTICATED"


@pytest.mark.parametrize("tls", [False, True])
def test_a_certificate_in_a_header_of_the_caller_proves_no_client(
    start_world: StartWorld, certifier: Certifier, tls: bool
) -> None:
    """The header is the one in which a proxy forwards a certificate, but any client can send it.

    The port asks for no client certificate.
    """
    holder = certifier.client("c", SPIFFE)
    forwarded = f'Hash=00;Cert="{quote(holder.certificate_file.read_text(), safe="")}";URI={SPIFFE}'
    world = start_world(**(certifier.server().settings() if tls else {}))
    verifier(world, SPIFFE)

    with (
        certifier.channel(world.target) if tls else grpc.insecure_channel(world.target) as channel,
        pytest.raises(grpc.RpcError) as error,
    ):
        rpc.IdentityServiceStub(channel).Issue(
            pb.IssueRequest(credential=CERTIFICATE), metadata=(("x-forwarded-client-cert", forwarded),)
        )

    assert failure(error.value).reason == "CREDENTIAL_REFUSED"


def test_beside_a_certificate_another_one_may_not_be_claimed(
    mutual: World, connect: Connect, certifier: Certifier
) -> None:
    verifier(mutual, SPIFFE)
    wanted = certifier.client("wanted", SPIFFE).certificate_file.read_text()
    claim = (("x-forwarded-client-cert", f'Cert="{quote(wanted, safe="")}"'),)
    world = connect(certifier.client("own", "own.example"))

    with pytest.raises(grpc.RpcError) as error:
        world.stub.Issue(pb.IssueRequest(credential=CERTIFICATE), metadata=claim)

    assert failure(error.value).reason == "CREDENTIAL_REFUSED"
