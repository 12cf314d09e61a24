"""A channel that adds tokens to calls, with a service that asks the identity service about them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from identity_client import AccessTokens, UnauthenticatedError, UnavailableError
from identity_client.grpc import NoTokenError, secure_channel
from identity_client.grpc._channel import BearerInterceptor
from identity_client.token_state import INVALIDATIONS
from identity_service.domain.ids import KeyId
from identity_shared.token_ids import unverified_token_id
from tests.clients.echo import CHAT, MANY, ONE, SUM, Echo, stub
from tests.clients.sources import LIFETIME, Clock, SignIns
from tests.patience import PATIENCE, until
from tests.rpc.keys import signed_with
from tests.rpc.world import World
from tests.tls import Certifier

KINDS = (ONE, MANY, SUM, CHAT)
STREAMS = (MANY, SUM, CHAT)


@pytest.fixture
def channel(echo: Echo, tokens: AccessTokens) -> Iterator[grpc.Channel]:
    with echo.serving() as target, secure_channel(target, tokens) as channel:
        yield channel


class Passing(grpc.UnaryUnaryClientInterceptor):
    """An interceptor as a program may add its own: it records the deadline of each call and passes it on."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.timeouts.append(client_call_details.timeout)
        return continuation(client_call_details, request)


def call(channel: grpc.Channel, method: str, **options: Any) -> list[bytes]:
    """Call a method of the service `Echo`; return its response messages."""
    request = iter([b"x"]) if method in (SUM, CHAT) else b"x"
    answer = stub(channel, method)(request, **{"timeout": PATIENCE} | options)
    return [answer] if method in (ONE, SUM) else list(answer)


def revoke(service: World, token: str) -> None:
    service.revoke(service.admin_token(), token_id=unverified_token_id(token))


@pytest.mark.parametrize("method", KINDS)
def test_calls_of_all_four_kinds_carry_the_token(
    channel: grpc.Channel, echo: Echo, tokens: AccessTokens, method: str
) -> None:
    assert set(call(channel, method)) == {b"x"}
    assert echo.seen == [tokens()]


def test_a_call_that_has_a_token_of_its_own_keeps_it(channel: grpc.Channel, echo: Echo) -> None:
    with pytest.raises(grpc.RpcError):
        call(channel, ONE, metadata=(("authorization", "Bearer own"),))
    assert echo.seen == ["own"]


def test_a_unary_call_is_repeated_once_with_another_token_after_a_revocation(
    channel: grpc.Channel, echo: Echo, service: World, tokens: AccessTokens
) -> None:
    first = tokens()
    revoke(service, first)

    assert call(channel, ONE) == [b"x"]

    assert echo.seen == [first, tokens()]
    assert echo.runs == 1


def test_no_call_fails_after_the_key_of_its_token_was_retired(
    channel: grpc.Channel, echo: Echo, service: World, tokens: AccessTokens
) -> None:
    first = tokens()
    service.service._use.rotation.retire(KeyId(signed_with(first)), "stolen")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call(channel, ONE), range(8)))

    assert answers == [[b"x"]] * 8
    assert first in echo.seen


def test_if_the_next_token_is_refused_as_well_the_call_fails(
    tokens: AccessTokens,
) -> None:
    echo = Echo(lambda _: "REVOKED")
    with echo.serving() as target, secure_channel(target, tokens) as channel:
        for _ in range(INVALIDATIONS + 2):
            with pytest.raises(grpc.RpcError) as error:
                call(channel, ONE)
            assert _code(error) is grpc.StatusCode.UNAUTHENTICATED

    assert len(echo.seen) == 2 * INVALIDATIONS + 2
    assert len(set(echo.seen)) == 1 + INVALIDATIONS


def test_an_error_from_further_down_names_another_token_and_is_not_repeated(
    channel: grpc.Channel, echo: Echo, service: World
) -> None:
    echo.further_down = service.admin_token()

    with pytest.raises(grpc.RpcError) as error:
        call(channel, ONE)

    assert _code(error) is grpc.StatusCode.UNAUTHENTICATED
    assert (len(echo.seen), echo.runs) == (1, 1)


@pytest.mark.parametrize("method", STREAMS)
def test_a_stream_is_not_repeated_but_the_next_call_has_another_token(
    channel: grpc.Channel, echo: Echo, service: World, tokens: AccessTokens, method: str
) -> None:
    first = tokens()
    revoke(service, first)

    with pytest.raises(grpc.RpcError):
        call(channel, method)

    until(lambda: tokens() != first)
    assert set(call(channel, method)) == {b"x"}
    assert len(echo.seen) == 2


def test_a_call_started_with_future_carries_the_token_and_has_another_one_the_next_time(
    channel: grpc.Channel, echo: Echo, service: World, tokens: AccessTokens
) -> None:
    first = tokens()
    revoke(service, first)
    echo.hold.clear()

    running = stub(channel, ONE).future(b"x", timeout=PATIENCE)
    until(lambda: echo.seen == [first])
    echo.hold.set()

    with pytest.raises(grpc.RpcError):
        running.result()
    until(lambda: tokens() != first)


def test_a_call_waits_for_a_token_no_longer_than_its_deadline(
    channel: grpc.Channel, echo: Echo, sign_ins: SignIns
) -> None:
    with sign_ins.held(), pytest.raises(NoTokenError, match=r"no access token within 0\.0") as error:
        call(channel, ONE, timeout=0.05)

    assert _code(error) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert echo.seen == []


def test_the_time_that_a_call_waits_for_its_token_counts_for_its_deadline(
    echo: Echo, tokens: AccessTokens, sign_ins: SignIns
) -> None:
    seen = Passing()
    sign_ins.open.clear()
    with (
        echo.serving() as target,
        grpc.insecure_channel(target) as inner,
        ThreadPoolExecutor(1) as pool,
    ):
        calling = pool.submit(call, grpc.intercept_channel(inner, BearerInterceptor(tokens), seen), ONE)
        until(lambda: sign_ins.count == 1)
        time.sleep(0.2)
        sign_ins.open.set()
        calling.result(PATIENCE)

    assert seen.timeouts[0] < PATIENCE - 0.2


def test_while_the_service_restarts_calls_go_on_with_the_token_they_have(
    channel: grpc.Channel, tokens: AccessTokens, sign_ins: SignIns, clock: Clock
) -> None:
    call(channel, ONE)
    sign_ins.errors = [UnavailableError("down", code=grpc.StatusCode.UNAVAILABLE)] * 3
    clock.ahead = 0.9 * LIFETIME

    def renewed() -> bool:
        assert call(channel, ONE) == [b"x"]
        return not sign_ins.errors

    until(renewed)


def test_without_a_token_the_error_of_the_call_is_one_of_grpc_and_says_why(
    channel: grpc.Channel, sign_ins: SignIns, tokens: AccessTokens
) -> None:
    sign_ins.errors = [
        UnauthenticatedError("the credential was refused", code=grpc.StatusCode.UNAUTHENTICATED)
    ]
    with pytest.raises(grpc.RpcError, match="no access token for this call: the credential") as error:
        call(channel, ONE)
    assert _code(error) is grpc.StatusCode.UNAUTHENTICATED
    assert isinstance(error.value.__cause__, UnauthenticatedError)

    outer = grpc.intercept_channel(channel, Passing())
    tokens._renewer._state._retry_at = 0.0
    sign_ins.errors = [PermissionError(13, "Permission denied", "/run/secret")] * 1000
    for method in KINDS:
        with pytest.raises(grpc.RpcError, match="/run/secret"):
            call(outer, method)


def test_the_channel_uses_tls_if_it_is_given_an_authority(
    echo: Echo, tokens: AccessTokens, certifier: Certifier
) -> None:
    with (
        echo.serving(certifier) as target,
        secure_channel(target, tokens, tls=certifier.options()) as channel,
    ):
        assert call(channel, ONE) == [b"x"]


def _code(error: Any) -> grpc.StatusCode:
    code = error.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code
