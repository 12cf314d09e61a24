"""docs/keys.md: its commands work when an administrator pastes them into a shell."""

import re
from pathlib import Path

import jwt
import pytest

from tests.docs.recipes import DOCS, Block, link_program
from tests.rpc.conftest import StartWorld, start_world
from tests.rpc.world import World

__all__ = ["start_world"]

_STEP = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def commands(heading: str) -> list[str]:
    """Return the commands of a section, including those in numbered steps."""
    text = (DOCS / "keys.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return _STEP.findall(section)


class Reader:
    """A reader of the page, who has a shell and an administrator's secret."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self._folder = folder

    def paste(self, commands: str, **environment: str) -> str:
        secret = self.world.admin.credential.client_secret
        known = {
            "IDENTITY_TARGET": self.world.target,
            "IDENTITY_CLIENT_ID": secret.client_id,
            "IDENTITY_CLIENT_SECRET": secret.client_secret,
        }
        return Block(language="sh", code=commands).run(self._folder, known | environment, {})


@pytest.fixture
def reader(start_world: StartWorld, tmp_path: Path, identity: Path) -> Reader:
    link_program(tmp_path, identity)
    return Reader(start_world(), tmp_path)


def key_ids(listed: str, state: str) -> list[str]:
    """Return the ids of the signing keys in a state, from the output of `identity key list`."""
    rows = [line.split() for line in listed.splitlines()]
    return [row[0] for row in rows if row[1:2] == ["sign"] and state in row]


def test_the_keys_are_looked_at(reader: Reader) -> None:
    (look,) = commands("Looking at them")

    listed = reader.paste(look)

    assert (len(key_ids(listed, "signing")), len(key_ids(listed, "pending"))) == (1, 1)


def test_keys_are_rotated_by_hand(reader: Reader) -> None:
    (rotate,) = commands("Rotating now")

    reader.paste(rotate)

    listed = reader.paste("identity key list")
    (pending,) = key_ids(listed, "pending")
    assert "EdDSA" in next(line for line in listed.splitlines() if pending in line)


def test_keys_are_sealed_anew(reader: Reader) -> None:
    (rewrap,) = commands("Changing the master key")

    assert reader.paste(rewrap).split() == ["rewrapped", "0", "total", "6"]


def test_the_procedure_for_a_leaked_key_works_as_written(reader: Reader) -> None:
    client = reader.world.new_client()
    forged = reader.world.issue(client).access_token
    find, retire, check = commands("A key has leaked")

    (leaked,) = key_ids(reader.paste(find), "signing")
    assert leaked == jwt.get_unverified_header(forged)["kid"]
    reader.paste(retire, LEAKED=leaked)

    assert reader.world.reason(forged) == "REVOKED"
    checked = reader.paste(check)
    assert key_ids(checked, "revoked") == [leaked]
    assert len(key_ids(checked, "signing")) == len(key_ids(checked, "pending")) == 1
    assert "identity-service" in checked, "the new token was verified"
