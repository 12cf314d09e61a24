"""The values and options of the Python client, which need no service."""

import json
from datetime import timedelta
from typing import Any

import pytest

from identity_client import ClientOptions, IdentityClient, InvalidArgumentError, Rejected, UnavailableError
from identity_client.values import to_outcome
from identityapi.v1 import identity_service_pb2 as pb


def test_a_reason_that_is_newer_than_the_client_still_rejects() -> None:
    newer: Any = 99
    response = pb.VerifyResponse(rejected=pb.Rejection(reason=newer, detail="d"), revision="e.7")

    assert to_outcome(response) == Rejected(reason="UNKNOWN_99", detail="d", revision="e.7")


@pytest.mark.parametrize("number", [n for n in pb.RejectionReason.values() if n])
def test_every_reason_has_its_name(number: Any) -> None:
    outcome = to_outcome(pb.VerifyResponse(rejected=pb.Rejection(reason=number)))

    assert isinstance(outcome, Rejected)
    assert pb.RejectionReason.Value(f"REJECTION_REASON_{outcome.reason}") == number


def test_an_answer_without_an_outcome_is_never_taken_for_a_good_token() -> None:
    with pytest.raises(ValueError, match="neither"):
        to_outcome(pb.VerifyResponse(revision="e.7"))


@pytest.mark.parametrize("bearer", ["secret-token\n", "secret token", "secret-tökén", "secret\x00"])
def test_a_bearer_that_is_no_token_is_refused_without_showing_it(bearer: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        ClientOptions(bearer=lambda: bearer).metadata()

    assert list(error.value.violations) == ["bearer"]
    assert "secret" not in str(error.value) + repr(error.value)


@pytest.mark.parametrize("bearer", [None, "", lambda: ""])
def test_without_a_bearer_nothing_goes_along(bearer: Any) -> None:
    assert ClientOptions(bearer=bearer).metadata() == ()


def test_only_unavailable_and_a_server_that_stops_are_retried_and_no_more_often_than_grpc_allows() -> None:
    options = ClientOptions(max_attempts=9, initial_backoff=timedelta(milliseconds=50))

    (method,) = json.loads(dict(options.channel_arguments())["grpc.service_config"])["methodConfig"]

    policy = method["retryPolicy"]
    assert policy["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]
    assert (policy["maxAttempts"], policy["initialBackoff"]) == (5, "0.050s")


def test_retries_are_never_so_close_that_grpc_loses_one() -> None:
    options = ClientOptions(initial_backoff=timedelta(milliseconds=1))

    (method,) = json.loads(dict(options.channel_arguments())["grpc.service_config"])["methodConfig"]

    assert method["retryPolicy"]["initialBackoff"] == "0.010s"


def test_pings_are_no_more_frequent_than_the_service_permits() -> None:
    """The service closes connections that send more than one ping in 20 seconds, as an attack."""
    assert dict(ClientOptions().channel_arguments())["grpc.keepalive_time_ms"] == 30_000


@pytest.mark.parametrize(("initial", "longest"), [(0.05, 2000), (3, 3000)])
def test_a_channel_connects_again_within_two_seconds_unless_its_first_pause_is_longer(
    initial: float, longest: int
) -> None:
    """The pause of gRPC itself grows to two minutes, even if the service has been back for long."""
    arguments = dict(ClientOptions(initial_backoff=timedelta(seconds=initial)).channel_arguments())

    assert arguments["grpc.initial_reconnect_backoff_ms"] == initial * 1000
    assert arguments["grpc.max_reconnect_backoff_ms"] == longest
    assert arguments["grpc.min_reconnect_backoff_ms"] == 5000, "the time to connect, not a pause"


def test_a_refused_connection_is_unavailable() -> None:
    options = ClientOptions(timeout=timedelta(seconds=2), max_attempts=1)
    with IdentityClient("127.0.0.1:1", options=options) as client, pytest.raises(UnavailableError) as error:
        client.revoke_token("t")

    assert error.value.reason == ""
