"""docs/encryption.md: each of its recipes works against a real service."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.docs.recipes import Block, link_program, sections
from tests.rpc.conftest import StartWorld, start_world
from tests.rpc.world import World

__all__ = ["start_world"]

PAGE = sections("encryption.md")
PLACE = "127.0.0.1:50051"


@pytest.fixture
def world(start_world: StartWorld, tmp_path: Path, identity: Path) -> World:
    link_program(tmp_path, identity)
    return start_world()


def as_client(world: World, client_id: str, secret: str) -> Mapping[str, str]:
    return {
        "IDENTITY_TARGET": world.target,
        "IDENTITY_CLIENT_ID": client_id,
        "IDENTITY_CLIENT_SECRET": secret,
    }


def follow(world: World, folder: Path, section: str) -> list[str]:
    """Run the blocks of a section and return their outputs.

    Blocks that create a record run as an administrator, the others as a client.
    """
    reports = world.new_client().credential.client_secret
    admin = world.admin.credential.client_secret
    printed = []
    for block in PAGE[section]:
        who = admin if " create " in block.code else reports
        environment = as_client(world, who.client_id, who.client_secret)
        printed.append(block.run(folder, environment, {PLACE: world.target}).strip())
    return printed


def test_a_token_to_the_service_is_verified_like_any_other(world: World, tmp_path: Path) -> None:
    (token,) = follow(world, tmp_path, "To the service")

    assert token.count(".") == 4
    assert world.reason(token) == ""


def test_the_audience_opens_a_token_that_was_encrypted_to_it(world: World, tmp_path: Path) -> None:
    *_, said = follow(world, tmp_path, "To an audience")

    assert said == "reports"
    assert world.reason((tmp_path / "token").read_text().strip()) == "UNDECRYPTABLE"


def test_every_recipe_of_the_page_is_run() -> None:
    run = {"To the service", "To an audience"}
    blocks: dict[str, list[Block]] = {heading: found for heading, found in PAGE.items() if found}

    assert blocks.keys() == run
