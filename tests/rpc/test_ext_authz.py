"""Envoy's ext_authz over gRPC: which requests may pass, and which identity the upstream service receives."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from identity_service.domain.errors import ConfigurationError
from identityapi.v1 import access_pb2
from tests.method_options import write_descriptors
from tests.patience import PATIENCE, until
from tests.redis_server import RedisServer
from tests.rpc.conftest import StartWorld
from tests.rpc.gateway import METHOD, Gateway
from tests.rpc.outages import lose, on, reason_of
from tests.rpc.shop import ORDERS_API, STOCK_API, Shop
from tests.rpc.world import API, Failure, World, bearer, failure
from tests.tls import Certifier, Holder

NAMES = {
    f"x-identity-{name}"
    for name in ("subject", "client", "scopes", "token-id", "session-id", "expires", "actors")
}


@pytest.fixture
def gateway(world: World) -> Gateway:
    return Gateway(world)


@pytest.fixture
def token(world: World) -> str:
    return world.issue(world.new_client()).access_token


def refused(call: Callable[[], object]) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return failure(error.value)


# The identity


def test_a_valid_token_passes_and_its_facts_become_headers(world: World, gateway: Gateway) -> None:
    tokens = world.issue(world.new_client("reports"), scopes=["read", "write"])

    passed = gateway.decide(tokens.access_token)

    assert passed.status == 200
    assert passed.upstream_headers == {
        "x-identity-subject": "reports",
        "x-identity-client": "reports",
        "x-identity-scopes": "read write",
        "x-identity-token-id": tokens.token_id,
        "x-identity-expires": str(tokens.expire_time.seconds),
    }
    assert passed.removed == NAMES - passed.upstream_headers.keys()
    assert all(each.HasField("append") for each in passed.response.ok_response.headers)
    assert not any(each.append.value for each in passed.response.ok_response.headers)


def test_the_token_of_a_person_tells_the_session_and_the_app(world: World, gateway: Gateway) -> None:
    person = world.new_user()
    tokens = world.issue(person)

    headers = gateway.decide(tokens.access_token).upstream_headers

    assert headers["x-identity-subject"] == person.id
    assert headers["x-identity-client"] != person.id
    assert headers["x-identity-session-id"] == tokens.session_id


def test_an_exchanged_token_tells_the_party_that_acts(world: World, gateway: Gateway) -> None:
    shop = Shop(world)
    first = shop.sign_in()
    second = shop.exchange(first.access_token, audiences=[STOCK_API])

    headers = gateway.decide(second.access_token, route={"audience": STOCK_API}).upstream_headers

    assert headers["x-identity-subject"] == shop.ana.id
    assert headers["x-identity-actors"] == "orders"
    assert (
        "x-identity-actors"
        not in gateway.decide(first.access_token, route={"audience": ORDERS_API}).upstream_headers
    )


def test_headers_of_the_client_with_the_prefix_of_the_identity_are_removed(
    gateway: Gateway, token: str
) -> None:
    forged = {"x-identity-subject": "root", "x-identity-actors": "x", "x_identity_subject": "root"}
    forged |= {"x-identity-role": "admin", "x.identity~subject": "root", "x-id": "kept"}

    for decided in (
        gateway.decide(token, headers=forged),
        gateway.decide(route={"public": "true"}, headers=forged),
    ):
        assert decided.status == 200
        assert decided.removed | decided.upstream_headers.keys() == NAMES | {
            "x_identity_subject",
            "x.identity~subject",
            "x-identity-role",
        }
        assert not decided.removed & decided.upstream_headers.keys()


def test_a_public_route_passes_without_identity_whatever_the_token(gateway: Gateway, token: str) -> None:
    for sent in (None, token, "no.such.token"):
        passed = gateway.decide(sent, route={"public": "true"})
        assert (passed.status, passed.upstream_headers, passed.removed) == (200, {}, NAMES)


# Refusals


def test_a_token_that_is_not_valid_is_401_with_the_reason(world: World, gateway: Gateway, token: str) -> None:
    world.revoke(token=token)

    decided = gateway.decide(token)

    assert decided.status == 401
    assert decided.challenge == 'Bearer error="invalid_token", error_description="the token was revoked"'
    assert decided.response.status.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert decided.response.denied_response.body == "the token was revoked"


def test_a_token_of_an_ended_session_or_an_expired_one_is_401(world: World, gateway: Gateway) -> None:
    tokens, expired = world.issue(world.new_user()), world.issue(world.new_client())

    world.revoke(token=tokens.refresh_token)
    assert gateway.decide(tokens.access_token).status == 401
    assert "session has ended" in gateway.decide(tokens.access_token).challenge

    world.clock.advance(minutes=16)
    assert gateway.decide(expired.access_token).status == 401
    assert "has expired" in gateway.decide(expired.access_token).challenge


def test_a_token_for_another_audience_is_401(gateway: Gateway, token: str) -> None:
    decided = gateway.decide(token, route={"audience": "billing"})

    assert decided.status == 401
    assert 'error="invalid_token"' in decided.challenge


def test_a_token_without_a_required_scope_is_403_and_the_challenge_names_the_scopes(
    gateway: Gateway, token: str
) -> None:
    assert gateway.decide(token, route={"audience": API, "scopes": "read write"}).status == 200

    decided = gateway.decide(token, route={"audience": API, "scopes": "read  pay"})

    assert decided.status == 403
    assert decided.response.status.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert 'error="insufficient_scope"' in decided.challenge
    assert decided.challenge.endswith('scope="read pay"')


def test_a_request_without_a_token_gets_the_plain_challenge(gateway: Gateway) -> None:
    for headers in ({}, {"authorization": "Basic eDp5"}, {"authorization": "DPoP a.b.c"}):
        decided = gateway.decide(headers=headers)
        assert (decided.status, decided.challenge) == (401, "Bearer")


def test_a_request_of_a_route_without_a_policy_is_403(gateway: Gateway, token: str) -> None:
    decided = gateway.decide(token, route={})

    assert decided.status == 403
    assert not decided.response.denied_response.headers
    assert "no access policy" in decided.response.denied_response.body


# The token in the request


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
@pytest.mark.parametrize("name", ["authorization", "Authorization"])
def test_the_scheme_and_the_name_of_the_header_may_be_in_any_case(
    gateway: Gateway, token: str, scheme: str, name: str
) -> None:
    assert gateway.decide(headers={name: scheme + token}).status == 200


def raw(*headers: tuple[str, bytes]) -> dict[str, Any]:
    return {"header_map": {"headers": [{"key": key, "raw_value": value} for key, value in headers]}}


def test_a_token_in_raw_headers_passes(gateway: Gateway, token: str) -> None:
    decided = gateway.decide(
        **raw((":path", b"/"), ("authorization", b"Bearer " + token.encode()), ("x_identity_x", b"\xff"))
    )

    assert decided.status == 200
    assert "x_identity_x" in decided.removed


def test_a_request_with_several_tokens_is_refused(gateway: Gateway, token: str) -> None:
    value = f"Bearer {token}"
    header = ("authorization", value.encode())
    form = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    requests: list[dict[str, Any]] = [
        {"headers": {"authorization": f"{value},{value}"}},  # as Envoy joins two headers
        {"headers": {"authorization": value, "Authorization": value}},
        raw(header, header),
        raw(header, ("Authorization", b"Basic eDp5")),
        raw(header, ("authorization", b"")),
        {"headers": {"authorization": value}, **raw(header)},
        {"header_map": {"headers": [{"key": "authorization", "value": value, "raw_value": value.encode()}]}},
        {"token": token, "path": "/orders?access_token=x"},
        {"token": token, "path": "/orders?a=b&access%5Ftoken=x"},
        {"token": token, "path": "/orders?a=b;Access_Token"},
        {"token": token, "headers": form, "body": "a=b&access_token=x"},
        {"token": token, "headers": form, "raw_body": b"access_token=x\xff"},
    ]

    decided = [gateway.decide(**request) for request in requests]

    assert {each.status for each in decided} == {401}
    assert {each.challenge for each in decided} == {
        'Bearer error="invalid_request", error_description="the request has more than one token"'
    }


def test_a_token_outside_of_the_header_authorization_is_none(gateway: Gateway, token: str) -> None:
    for request in (
        {"path": f"/?access_token={token}"},
        {"headers": {"x-authorization": f"Bearer {token}"}},
        {"headers": {"proxy-authorization": f"Bearer {token}"}},
    ):
        assert gateway.decide(**request).status == 401


@pytest.mark.parametrize("text", ["", " ", "a b", "a.b.c!", "tok\x00en", "tök", "a" * 9000])
def test_text_that_is_no_token_is_401_and_not_in_the_answer(gateway: Gateway, text: str) -> None:
    decided = gateway.decide(text)

    assert decided.status == 401
    assert 'error="invalid_token"' in decided.challenge
    assert not text.strip() or text not in str(decided.response)


# The policy of a route


@pytest.mark.parametrize(
    ("route", "key"),
    [
        ({"audience": API, "scope": "admin"}, "scope"),
        ({"Audience": API}, "Audience"),
        ({"scopes": "read"}, "audience"),
        ({"audience": ""}, "audience"),
        ({"audience": "a b"}, "audience"),
        ({"audience": API, "scopes": 'a"b'}, "scopes"),
        ({"audience": API, "scopes": "identity.root"}, "scopes"),
        ({"audience": API, "scopes": " ".join(f"s{n}" for n in range(101))}, "scopes"),
        ({"public": "yes"}, "public"),
        ({"public": "true", "audience": API}, "public"),
        ({"public": "true", "scopes": "read"}, "public"),
        ({"public": "false"}, "audience"),
    ],
)
def test_a_route_with_a_policy_that_is_not_clear_fails_and_names_the_key(
    gateway: Gateway, token: str, route: dict[str, str], key: str
) -> None:
    failed = refused(lambda: gateway.decide(token, route=route))

    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"attributes.context_extensions[{key}]" in failed.fields


def test_a_route_with_many_unknown_keys_fails_and_names_some(gateway: Gateway, token: str) -> None:
    failed = refused(lambda: gateway.decide(token, route={f"{n:04}" + "x" * 99: "" for n in range(1000)}))

    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"attributes.context_extensions[0000{'x' * 60}]" in failed.fields


# The policy of a gRPC method


@pytest.fixture
def shop(start_world: StartWorld, tmp_path: Path) -> World:
    """A service that has the proto descriptors of an example API, with the access that each method needs."""
    path = write_descriptors(
        tmp_path / "shop.binpb",
        Get=access_pb2.Access(audience=API, scopes=["read"]),
        Pay=access_pb2.Access(audience=API, scopes=["pay"]),
        Hours=access_pb2.Access(public=True),
        Defaults=access_pb2.Access(),
        Undeclared=None,
    )
    return start_world(ext_authz_descriptors=path)


def test_the_option_of_a_method_decides_if_the_route_has_no_policy(shop: World) -> None:
    gateway, token = Gateway(shop), shop.issue(shop.new_client()).access_token

    def status(path: str, token: str | None = token, **route: str) -> int:
        return gateway.decide(token, route=route, path=path).status

    assert status("/shop.v1.Orders/Get") == 200
    assert status("/shop.v1.Orders/Get", None) == 401
    assert status("/shop.v1.Orders/Pay") == 403
    assert status("/shop.v1.Orders/Hours", None) == 200
    assert status("/shop.v1.Orders/Pay", audience=API) == 200  # the operator's word about the route
    for path in (
        "/shop.v1.Orders/Defaults",
        "/shop.v1.Orders/Undeclared",
        "/shop.v1.Orders/Nothing",
        "/shop.v1.Orders/Hours?x=y",
        "/shop.v1.Orders/hours",
        "//shop.v1.Orders/Hours",
        "/shop.v1.Orders/Hours/",
        "/shop.v1.Orders/%48ours",
        "/shop.v1.Orders/Get/../Hours",
        "shop.v1.Orders/Hours",
        "",
    ):
        assert status(path) == 403, path


def test_descriptors_that_are_not_acceptable_stop_the_start(start_world: StartWorld, tmp_path: Path) -> None:
    path = write_descriptors(tmp_path / "shop.binpb", Get=None)

    with pytest.raises(ConfigurationError, match="ext_authz_descriptors: no method"):
        start_world(ext_authz_descriptors=path)


# The gateway itself


def test_a_gateway_proves_itself_as_a_caller_of_verify(start_world: StartWorld) -> None:
    world = start_world(require_caller_auth=True)
    token = world.issue(world.new_client()).access_token

    def asked(*metadata: tuple[str, str]) -> str:
        return refused(lambda: Gateway(world, metadata).decide(token)).reason

    assert asked() == "CALLER_UNAUTHENTICATED"
    assert asked(*bearer(token)) == "CALLER_UNAUTHENTICATED"  # of the client: for another audience
    assert asked(*bearer(world.admin_token(["identity.revoke"]))) == "CALLER_SCOPE_MISSING"
    verifier = bearer(world.admin_token(["identity.verify"]))
    assert Gateway(world, verifier).decide(token).status == 200
    assert Gateway(world, verifier).decide("x").status == 401


def test_a_gateway_may_prove_itself_by_its_certificate(mutual: World, certifier: Certifier) -> None:
    mutual.new_client("gateway", certificates=("dns:gateway.example",), scopes=("identity.verify",))
    with certifier.channel(mutual.target, certifier.client("g", "gateway.example")) as channel:
        assert Gateway(replace(mutual, channel=channel)).decide("x").status == 401
    with certifier.channel(mutual.target, certifier.client("h", "other.example")) as channel:
        failed = refused(lambda: Gateway(replace(mutual, channel=channel)).decide("x"))
        assert failed.reason == "CALLER_UNAUTHENTICATED"


def test_a_bound_token_passes_only_with_the_certificate_that_the_gateway_forwards(
    mutual: World, certifier: Certifier
) -> None:
    one, other = (certifier.client(name, f"{name}.example") for name in ("one", "other"))
    mutual.new_client("gateway", certificates=("dns:one.example",), scopes=("identity.verify",))
    client = mutual.new_client(require_binding=True)
    with certifier.channel(mutual.target, one) as channel:
        world = replace(mutual, channel=channel)
        gateway = Gateway(world)
        token = world.issue(client).access_token

        def status(certificate: str) -> int:
            return gateway.decide(token, certificate=certificate).status

        pem = one.certificate_file.read_text()
        assert status(pem) == 200
        assert status(other.certificate_file.read_text()) == 401
        assert status(other.certificate_file.read_text() + pem) == 401
        assert status("") == 401
        assert status("no certificate") == 401
        assert status(of_an_unknown_version(one)) == 401


def of_an_unknown_version(holder: Holder) -> str:
    """Return the certificate in PEM, with an X.509 version that does not exist."""
    version = b"\xa0\x03\x02\x01"
    changed = holder.der.replace(version + b"\x02", version + b"\x09", 1)
    assert changed != holder.der
    return ssl.DER_cert_to_PEM_cert(changed)


# A process that cannot know


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of this test alone, which the test kills."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


def test_a_stale_process_fails_the_check_and_calls_no_token_bad(server: RedisServer) -> None:
    with on(server) as world:
        gateway, token = Gateway(world), world.issue(world.new_client()).access_token
        assert gateway.decide(token).status == 200

        lose(server, world)

        until(lambda: reason_of(lambda: gateway.decide(token)) == "REPLICA_STALE")


# Requests of every kind


def test_bytes_that_are_no_check_request_are_an_invalid_argument(world: World) -> None:
    call: Any = world.channel.unary_unary(METHOD)

    for data in (b"\xff", b"\x0a\x02\x22\x05", b"\x0a" + bytes(300_000)):
        failed = refused(lambda data=data: call(data, timeout=PATIENCE))  # type: ignore[misc]
        assert failed.code is grpc.StatusCode.INVALID_ARGUMENT


def test_an_empty_request_is_refused(world: World) -> None:
    assert Gateway(world).decide(route={}).status == 403
