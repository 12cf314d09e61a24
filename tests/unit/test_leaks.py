"""The plugin that searches for secrets finds them wherever they must not be, and ignores allowed lines."""

import subprocess
import sys
from pathlib import Path

import pytest

from identity_service.domain.secret import REFRESH_TOKEN_PREFIX, new_client_secret
from tests.leaks import leaks_of, secrets_in

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJpZGVudGl0eSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (JWT, "a JWT"),
        (f"token={JWT!r}", "a JWT"),
        pytest.param(new_client_secret().reveal(), "a client secret", id="a new client secret"),
        (REFRESH_TOKEN_PREFIX + "A" * 80, "a refresh token"),
        ("$argon2id$v=19$m=64,t=1,p=1$c2FsdA$aGFzaA", "a password hash"),
        ("-----BEGIN EC PRIVATE" + " KEY-----", "a private key"),
        ("authorization: Bearer abcdefghijklmnopqrstuvwx", "a bearer header"),
        ("user ana gave correct horse battery staple", "a password of the tests"),
    ],
)
def test_a_secret_is_found(text: str, kind: str) -> None:
    assert kind in secrets_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "token_issued actor=admin token_id=5rZURVObsjeML9_umA0gkw",
        "this method needs metadata `authorization: Bearer <access token>` for audience 'identity-service'",
        "the credential was refused",
    ],
)
def test_an_allowed_line_is_no_leak(text: str) -> None:
    assert secrets_in(text) == []


def test_only_the_log_of_a_service_is_searched_and_not_its_output_for_people(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    log.write_text(f'IDENTITY_CLIENT_SECRET={new_client_secret().reveal()}\n{{"event": "{JWT}"}}\n')

    assert leaks_of(log) == [f"{tmp_path.name}: a line of some.log holds a JWT"]


@pytest.mark.parametrize(
    ("said", "code"),
    [("the password is correct horse battery staple", 1), ("the password is hidden", 0)],
    ids=["leak", "control"],
)
def test_a_run_whose_log_holds_a_secret_fails(tmp_path: Path, said: str, code: int) -> None:
    root = Path(__file__).parents[2]
    test = tmp_path / "test_that_passes.py"
    test.write_text(
        f"import structlog\n\ndef test_that_passes():\n    structlog.get_logger().info('x', why={said!r})\n"
    )
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", str(test)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stdout
    assert ("a log line holds a password of the tests" in done.stdout) is bool(code)
