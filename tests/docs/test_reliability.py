"""docs/reliability.md: an operator who follows it backs up, moves to Redis, and restores elsewhere."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.recipes import DOCS, Block
from tests.e2e.process import Installation
from tests.faults.administrator_tokens import refusal
from tests.patience import until
from tests.redis_server import RedisServer

_STEP: Final = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SQLITE: Final = "sqlite:////var/lib/identity/identity.db"
REDIS: Final = "redis://127.0.0.1:6379/0"


def commands(heading: str) -> list[str]:
    """Return the commands of a section in their order."""
    text = (DOCS / "reliability.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return _STEP.findall(section)


class Operator:
    """An operator with a shell in a folder, the settings of one store, and an administrator's secret."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.folder = folder
        self.places = {SQLITE: f"sqlite:///{folder}/identity.db", REDIS: redis.url}
        self.installation = Installation(folder, self.places[SQLITE], forked=True)
        self.admin = self.installation.init()

    def paste(self, code: str, **environment: str) -> str:
        environ = {name: text for name, text in self.installation.environ.items() if name != "PATH"}
        return Block(language="sh", code=code).run(self.folder, environ | environment, self.places)

    def on(self, store: str) -> Installation:
        return Installation(self.folder, store, dict(self.installation.environment), forked=True)

    def verified(self, installation: Installation, token: str = "") -> str:
        """Start a service of an installation, have it verify a token, and return the answer's type.

        If `token` is empty, the service issues a new one.
        """
        with installation.serve() as service:
            token = token or service.json("token", "issue", "--client-id", "admin")["access_token"]
            with service.client() as client:
                return type(client.verify(token, any_audience=True)).__name__


@pytest.fixture
def operator(tmp_path: Path, redis_server: RedisServer) -> Operator:
    redis_server.flush()
    return Operator(tmp_path, redis_server)


def test_the_walk_needs_no_step_that_is_not_written(operator: Operator) -> None:
    (back_up,) = commands("Back up")
    restore, replace, afterwards = commands("Restore")
    migrate, undo = commands("Migrate to another store")
    elsewhere = f"sqlite:///{operator.folder}/elsewhere.db"
    moved_to = operator.on(operator.places[REDIS])
    with operator.installation.serve() as service:
        service.json("client", "create", "reports", "--audience", "api")
        for name in ("ana", "bob"):
            service.json("user", "create", name, "--password-stdin", stdin="correct horse battery staple\n")
        token = service.json("token", "issue", "--client-id", "admin")["access_token"]
        printed = operator.paste(back_up)
        assert "revision" in printed
        operator.paste(migrate)
        with service.client(max_attempts=1) as client:
            until(lambda: "moved" in refusal(client, token))

    assert operator.verified(moved_to, token) == "Verified", "tokens go on"
    with pytest.raises(AssertionError, match="has taken over"):
        operator.paste(undo)

    printed = operator.paste(restore, IDENTITY_STORE=elsewhere)
    assert "every user must sign in again" in printed.lower()
    assert operator.verified(operator.on(elsewhere), token) == "Rejected", "tokens of before do not"
    assert operator.verified(operator.on(elsewhere)) == "Verified"

    operator.paste(replace, IDENTITY_STORE=operator.places[REDIS])
    assert operator.verified(moved_to, token) == "Rejected"
    assert operator.verified(moved_to) == "Verified"
    disable, rotate, _ = afterwards.splitlines()  # the third one asks for a password
    with moved_to.serve() as service:
        operator.paste(f"{disable}\n{rotate}", IDENTITY_TARGET=service.target)
    (look,) = commands("Upgrading from 0.1.0")
    (operator.folder / "identity.backup").unlink()
    operator.paste(look, IDENTITY_STORE=elsewhere)


def test_a_store_restored_by_hand_is_revoked_as_a_whole(operator: Operator) -> None:
    (revoke,) = commands("A store restored by hand")
    with operator.installation.serve() as service:
        token = service.json("token", "issue", "--client-id", "admin")["access_token"]
        operator.paste(revoke, IDENTITY_TARGET=service.target)
        with service.client() as client:
            assert type(client.verify(token, any_audience=True)).__name__ == "Rejected"
        new = service.json("token", "issue", "--client-id", "admin")["access_token"]
        with service.client() as client:
            assert type(client.verify(new, any_audience=True)).__name__ == "Verified"
