"""Text from outside is printed as plain text: no markup, no control characters, no additional rows."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
import structlog
import typer
from rich.text import Text

from identity_service.adapters.clock import SystemClock
from identity_service.cli.output import failures, put_styled, show, show_table
from identity_service.composition.opening import open_store
from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import KeyId, PrincipalId, SessionId
from identity_service.domain.sessions import Session
from identity_service.domain.visible import has_controls
from identity_service.settings import Settings
from identity_service.telemetry import logs
from tests.cli.conftest import PASSWORD, Run, RunJson, Served
from tests.e2e.process import MASTER_KEY

FORGED = "[/] phone\nroot\x1b[2J\x9b1m\u202e\u2028\ud800"


def is_clean(printed: str, lines: int) -> bool:
    rows = printed.removesuffix("\n").split("\n")
    return len(rows) == lines and not any(map(has_controls, rows))


def test_a_table_shows_each_row_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"id": "1", "device": FORGED}], as_json=False, empty="none")

    printed = capsys.readouterr().out
    assert is_clean(printed, 2)
    assert "[/] phone" in printed


def test_values_and_styled_lines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    show({FORGED: FORGED, "claims": {FORGED: FORGED}}, as_json=False)
    put_styled((FORGED, "bold"))

    assert is_clean(Text.from_ansi(capsys.readouterr().out).plain, 3)


def test_an_error_of_a_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), failures(as_json=False):
        raise StoreUnavailableError(FORGED)

    assert is_clean(capsys.readouterr().err, 1)


def test_a_strangers_token_is_shown_without_harm(run: Run) -> None:
    valid = FORGED.removesuffix("\ud800")
    token = f"{part({'alg': valid})}.{part({valid: valid})}.e30"

    assert is_clean(run("token", "inspect", token).stdout, 2)
    assert json.loads(run("token", "inspect", token, "--json").stdout)["claims"] == {valid: valid}


def test_a_token_with_half_a_character_is_refused_on_one_line(run: Run) -> None:
    refused = run("token", "inspect", f"{part({'alg': 'none'})}.{part({'sub': FORGED})}.e30", code=1)

    assert is_clean(refused.stderr, 1)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_control_characters_stored_by_an_older_version_are_listed_escaped(
    admin: Run, admin_json: RunJson, served: Served
) -> None:
    """Now the API refuses such texts."""
    words = ("user", "create", "ana", "-a", "api", "--password-stdin")
    ana = admin_json(*words, stdin=f"{PASSWORD}\n")["user_id"]
    now = datetime.now(UTC)
    settings = Settings.model_validate({"store": served.running.store, "master_key": MASTER_KEY})
    store = open_store(settings, SystemClock())
    session = Session(
        session_id=SessionId("old"),
        subject=PrincipalId(ana),
        client_id=PrincipalId("first-party"),
        audiences=("api",),
        scopes=(),
        lifetime=timedelta(minutes=15),
        auth_time=now,
        expire_time=now + timedelta(hours=1),
        device=FORGED.removesuffix("\ud800"),
        key_id=KeyId("k"),
    )
    store.sessions.create(session)
    store.audit.append([AuditEvent.of(AuditType.SESSION_REVOKED, actor=session.device, text=session.device)])
    store.close()

    listed = admin("session", "list", "--user", "ana").stdout
    assert is_clean(listed, 2)
    assert "[/] phone\\nroot" in listed
    assert is_clean(admin("audit", "list", "--type", "session_revoked").stdout, 1)
    (event,) = admin_json("audit", "list", "--type", "session_revoked")
    assert event["details"]["text"] == session.device


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_of_the_log_is_one_line(form: str) -> None:
    line = {"event": "rpc", "method": FORGED, "details": [FORGED]}
    if form == "json":
        assert is_clean(logs._render(None, "info", dict(line)).decode(), 1)
    else:
        escaped = logs._escape_fields(None, "info", dict(line))
        shown = structlog.dev.ConsoleRenderer(colors=False)(None, "info", escaped)
        assert is_clean(str(shown), 1)
