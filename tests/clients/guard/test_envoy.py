"""Guards whose identity service runs on Envoy: they use its Watch stream, its keys and its Verify."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest

from identity_client import IdentityClient, LocalVerifier
from identity_client.grpc import ASK
from tests.clients.guard.conftest import Start, stale_policy
from tests.clients.guard.refusals import Refused, bearer, refusal, unpacked
from tests.clients.guard.reports import Client
from tests.clients.guard.site import Site, make_stale, running_site
from tests.patience import PATIENCE, until
from tests.rpc.conftest import ENVOY

REVOKED = Refused("UNAUTHENTICATED", "TOKEN_REVOKED", "REVOKED")
CANCELLED = Refused("CANCELLED")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("guarded"), ENVOY) as site:
        yield site


def test_a_call_of_each_kind_is_admitted_by_its_token_alone(client: Client, site: Site) -> None:
    metadata, ana = bearer(site.token()), site.users["ana"].id.encode()

    assert client.call("Get", metadata) == [ana]
    assert client.call("Total", metadata, b"12", b"345") == [ana + b" 5"]
    assert client.call("Follow", metadata, b"3") == [ana] * 3
    assert client.call("Chat", metadata, b"a", b"b") == [ana] * 2
    for method in ("Get", "Total", "Follow", "Chat"):
        assert refusal(client.call, method, ()).code == "UNAUTHENTICATED"


@pytest.mark.parametrize("end", ["token", "key"])
def test_an_open_stream_ends_when_its_token_or_its_key_is_revoked(
    client: Client, site: Site, end: str
) -> None:
    tokens = site.sign_in()
    stream = client.stub("Endless")(b"", metadata=bearer(tokens.access_token), timeout=PATIENCE)
    next(stream)

    if end == "token":
        site.revoke(lambda service: service.revoke_token_id(tokens.token_id))
    else:
        site.retire_key()

    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    # The published keys without the retired one may arrive before its revocation.
    gone = {replace(REVOKED, rejection="UNKNOWN_KEY")} if end == "key" else set()
    # A handler with threads that sends no message for 100 ms is cancelled.
    assert unpacked(caught.value) in {REVOKED, CANCELLED} | gone
    until(lambda: refusal(client.call, "Get", bearer(tokens.access_token)) == REVOKED)
    assert client.call("Get", bearer(site.token()))


def test_a_service_on_envoy_is_asked_while_the_verifier_is_stale(
    start: Start, own: LocalVerifier, site: Site, asking: IdentityClient
) -> None:
    good, revoked = site.token(), site.sign_in("bo")
    site.revoke(lambda service: service.revoke_token_id(revoked.token_id))
    make_stale(own, timedelta(hours=1))

    with start(own, stale_policy(ASK), ask=asking) as client:
        assert client.call("Get", bearer(good)) == [site.users["ana"].id.encode()]
        assert refusal(client.call, "Get", bearer(revoked.access_token)) == REVOKED
