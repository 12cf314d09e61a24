"""Protobuf messages are printed field by field as plain values, even with fields of a newer service."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from identity_service.cli.messages import values_of
from identityapi.v1 import principal_pb2 as pb

TIME = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_enums_times_durations_and_messages_are_plain_values() -> None:
    client = pb.Client(
        client_id="c",
        grants=[pb.GRANT_PASSWORD],
        on_reuse=pb.ON_REUSE_REFUSE,
        secrets=[pb.SecretInfo(create_time=Timestamp(seconds=int(TIME.timestamp())))],
    )
    client.max_lifetime.FromTimedelta(timedelta(minutes=1))

    found = values_of(client)

    assert (found["client_id"], found["grants"], found["on_reuse"]) == ("c", ["password"], "refuse")
    assert (found["max_lifetime"], found["create_time"], found["audiences"]) == (60.0, None, [])
    assert found["secrets"] == [{"create_time": TIME, "expire_time": None}]


def test_only_the_named_fields_are_shown_in_the_given_order() -> None:
    rule = pb.TrustRule(claims={"sub": "x"}, client_id="c")

    assert [*values_of(rule, "client_id", "claims").items()] == [("client_id", "c"), ("claims", {"sub": "x"})]


def test_an_enum_that_is_newer_than_the_command_is_a_number() -> None:
    assert values_of(pb.Client(grants=[99]), "grants") == {"grants": ["99"]}  # type: ignore[list-item]
