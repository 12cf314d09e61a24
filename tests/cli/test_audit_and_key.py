"""`identity audit` and `identity key`."""

import json
import signal

import pytest

from tests.cli.conftest import Run, RunJson, Served
from tests.cli.test_watch import watching


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


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01"])
def test_a_time_that_is_none_is_called_wrongly(admin: Run, time: str) -> None:
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
    (key,) = admin_json("key", "list")

    assert (key["algorithm"], key["state"]) == ("ES256", "signing")
    assert key["key_id"] in admin("key", "list").stdout
