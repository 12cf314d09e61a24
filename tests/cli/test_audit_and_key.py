"""`identity audit` and `identity key`."""

import json
import signal

import pytest

from identity_service.domain.audit import AuditType
from tests.cli.conftest import Run, RunJson, Served
from tests.cli.watching import watching


def test_events_are_listed_newest_first_and_filtered(admin: Run, admin_json: RunJson) -> None:
    admin("client", "create", "first")
    admin("client", "create", "second")

    found = admin_json("audit", "list", "--type", "client_created", "--since", "1h", "--limit", "2")

    assert [event["target"] for event in found] == ["second", "first"]
    assert {(event["actor"], event["outcome"]) for event in found} == {("admin", "done")}
    assert admin_json("audit", "list", "--principal", "second")[0]["target"] == "second"
    assert admin_json("audit", "list", "--until", "2020-01-01T00:00:00Z") == []
    assert admin_json("audit", "list", "--since", "2100-01-01") == []
    assert "client_created" in admin("audit", "list").stdout


def test_a_list_without_events_of_traffic_says_where_they_are(admin: Run, admin_json: RunJson) -> None:
    said = admin("audit", "list", "--type", "token_issued", "--until", "2020-01-01")

    assert said.stderr.startswith("token_issued: ")
    assert 'audit_traffic = "store"' in said.stderr
    assert admin("audit", "list", "--type", "client_created", "--until", "2020-01-01").stderr == ""
    assert admin_json("audit", "list", "--type", "call_refused") == []


def test_a_list_with_events_prints_nothing_else(admin: Run) -> None:
    admin("client", "create", "listed")

    said = admin("audit", "list", "--type", "token_issued", "--type", "client_created")

    assert "client_created" in said.stdout
    assert said.stderr == ""


def test_a_type_that_does_not_exist_is_called_wrongly_and_those_that_do_are_listed(admin: Run) -> None:
    said = admin("audit", "list", "--type", "session_revoked", "--type", "nonsense\x1b", code=2)

    assert r"'nonsense\x1b' is not one of 'token_issued', " in said.stderr
    assert all(type_.value in said.stderr for type_ in AuditType)


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01"])
def test_a_malformed_time_is_a_usage_error(admin: Run, time: str) -> None:
    assert "--since" in admin("audit", "list", "--since", time, code=2).stderr


def test_events_are_shown_as_they_happen_and_it_ends_at_once(
    admin: Run, admin_json: RunJson, served: Served
) -> None:
    admin("client", "create", "before")
    (last,) = admin_json("audit", "list", "--limit", "1", "--type", "client_created")
    words = ("audit", "tail", "--json", "--resume-after", last["event_id"])
    with watching(served.target, *words, **served.environ) as tail:
        admin("client", "create", "after")
        events = [json.loads(line) for line in tail.until("client_created")]
        assert events[-1]["target"] == "after"
        assert tail.end(signal.SIGINT) == 0


def test_the_signing_key_is_listed(admin: Run, admin_json: RunJson) -> None:
    keys = admin_json("key", "list")

    found = [(key["purpose"], key["algorithm"], key["state"]) for key in keys]
    assert found == [
        ("sign", "ES256", "signing"),
        ("sign", "ES256", "pending"),
        ("refresh", "HS256", "signing"),
        ("refresh", "HS256", "pending"),
        ("encrypt", "ECDH-ES+A256KW", "signing"),
        ("encrypt", "ECDH-ES+A256KW", "pending"),
    ]
    assert keys[0]["key_id"] in admin("key", "list").stdout


def test_the_next_key_is_brought_into_use_ahead_of_its_time(admin: Run, admin_json: RunJson) -> None:
    key = admin_json("key", "rotate", "--algorithm", "EdDSA")

    assert (key["purpose"], key["algorithm"], key["state"]) == ("sign", "EdDSA", "pending")
    assert key["key_id"] in {listed["key_id"] for listed in admin_json("key", "list")}
    assert "'sign', 'refresh', 'encrypt'" in admin("key", "rotate", "--purpose", "sing", code=2).stderr


def test_a_key_is_retired_after_a_question(admin: Run, admin_json: RunJson) -> None:
    (in_use, standby, *_) = admin_json("key", "list")
    assert "for ever?" in admin("key", "retire", in_use["key_id"], code=1).stderr

    done = admin_json("key", "retire", in_use["key_id"], "--reason", "it leaked", "--yes")

    assert (done["key_id"], done["in_use"]) == (in_use["key_id"], standby["key_id"])
    assert [key["state"] for key in admin_json("key", "list")][:2] == ["revoked", "signing"]
