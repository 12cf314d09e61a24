"""The emergency procedures of the documentation, while clients call a protected service continuously.

Clients and guard use the SDK as its pages say. No call may fail. The longest time between two responses is
logged, not asserted: see it with `pytest --log-level=info -rP`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from identity_client import ClientOptions, IdentityClient, LocalVerifier
from identity_client.environment import Environment
from identity_client.grpc import Guard, Policy
from identity_client.grpc.aio import Guard as AioGuard
from identity_client.testing import ServiceUnderTest, service_process
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1.trust_service_pb2 import KEY_PURPOSE_SIGN, KEY_STATE_SIGNING
from tests.clients import calling
from tests.clients.calling import Calls
from tests.clients.guard import reports
from tests.clients.guard.site import AUDIENCE, READ
from tests.clients.sources import standing_still
from tests.patience import PATIENCE, until
from tests.ports import reserve_address
from tests.rpc.clocks import ShiftedClock
from tests.rpc.conftest import settings_for_tests
from tests.rpc.keys import signed_with
from tests.rpc.restartable import Restartable
from tests.tls import Certifier

SERVE: dict[str, tuple[Any, Any, calling.Start]] = {
    "threads": (reports.threaded, Guard, calling.in_thread),
    "asyncio": (reports.in_loop, AioGuard, calling.in_loop),
}
POLICY = Policy(AUDIENCE, {reports.name("Get"): [READ]})
VERIFY = "identity.verify"


@pytest.fixture(params=SERVE)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def users(kind: str, verifier: dict[str, str], caller: dict[str, str]) -> Iterator[Calls]:
    """Run a protected service and a client of it; their environments name the identity service."""
    serve, guard, start = SERVE[kind]
    with LocalVerifier.from_env(verifier, max_staleness=timedelta(seconds=PATIENCE)) as following:
        assert following._tokens is not None
        standing_still(following._tokens)
        following.wait_ready(timedelta(seconds=PATIENCE))
        with (
            serve(lambda: guard(following, POLICY)) as service,
            calling.calling(start, Environment.read(caller), service.target) as calls,
        ):
            yield calls


@pytest.fixture
def identity() -> Iterator[ServiceUnderTest]:
    with service_process(tls=True) as service:
        service.create_client("verifier", audiences=["identity-service"], scopes=[VERIFY])
        service.create_client("caller", audiences=[AUDIENCE], scopes=[READ])
        yield service


def signing_key(identity: ServiceUnderTest) -> str:
    keys = (key for key in identity.admin.list_keys() if key.purpose == KEY_PURPOSE_SIGN)
    return next(key.key_id for key in keys if key.state == KEY_STATE_SIGNING)


def test_no_call_fails_while_two_signing_keys_are_retired_within_a_minute(
    kind: str, identity: ServiceUnderTest
) -> None:
    with users(kind, identity.environment("verifier"), identity.environment("caller")) as calls:
        key = signing_key(identity)
        for _ in range(2):
            key = identity.admin.retire_key(key, reason="leaked").successor.key_id
            await_token_of(calls, key)

    calls.log()
    assert calls.failures == []


def test_no_call_fails_while_everything_is_revoked(kind: str, identity: ServiceUnderTest) -> None:
    with users(kind, identity.environment("verifier"), identity.environment("caller")) as calls:
        revoked = calls.token
        identity.revoker.revoke_everything(reason="leaked")
        until(lambda: bool(calls.failures) or calls.token != revoked)
        calls.await_answers()

    calls.log()
    assert calls.failures == []


def await_token_of(calls: Calls, key: str) -> None:
    """Wait until calls with a token signed by this key have succeeded, or a call has failed."""
    until(lambda: bool(calls.failures) or signed_with(calls.token) == key)
    calls.await_answers()


@pytest.fixture
def process(tmp_path: Path, certifier: Certifier) -> Iterator[Restartable]:
    """The service with TLS, at an address that it has again after a restart."""
    settings = settings_for_tests(listen=reserve_address(), **certifier.server().settings())
    path = str(tmp_path / "identity.db")
    process = Restartable(settings, lambda clock: SqliteStore.open(path, clock=clock))
    process.clock = ShiftedClock()  # which goes on: a verifier accepts no clock that stands still
    process.start()
    yield process
    process.stop()


def test_no_call_of_a_client_with_a_valid_token_fails_while_the_service_restarts(
    kind: str, process: Restartable, certifier: Certifier
) -> None:
    def environment(client: str, audience: str, scope: str) -> dict[str, str]:
        made = process.world.new_client(client, audiences=(audience,), scopes=(scope,))
        return {
            "IDENTITY_TARGET": process.world.target,
            "IDENTITY_CA": str(certifier.file),
            "IDENTITY_CLIENT_ID": client,
            "IDENTITY_CLIENT_SECRET": made.credential.client_secret.client_secret,
        }

    verifier = environment("verifier", process.world.settings.service_audience, VERIFY)
    with users(kind, verifier, environment("caller", AUDIENCE, READ)) as calls:
        process.stop()
        calls.await_answers()
        process.start()
        revoked = calls.token
        revoke_own(revoked, process.world.target, certifier)
        until(lambda: bool(calls.failures) or calls.token != revoked)

    calls.log()
    assert calls.failures == []


def revoke_own(token: str, target: str, certifier: Certifier) -> None:
    """Revoke a token; its holder may do that."""
    options = ClientOptions(tls=certifier.options(), bearer=token, timeout=timedelta(seconds=PATIENCE))
    with IdentityClient(target, options=options) as client:
        client.revoke_token(token)
