"""docs/local-verification.md: its recipe works against a real service."""

from pathlib import Path

import pytest

from tests.docs.recipes import sections
from tests.rpc.conftest import StartWorld, start_world
from tests.rpc.world import World

__all__ = ["start_world"]

PAGE = sections("local-verification.md")


@pytest.fixture
def world(start_world: StartWorld) -> World:
    return start_world()


def test_the_recipe_prints_the_client_of_a_token_or_the_reason_of_its_refusal(
    world: World, tmp_path: Path
) -> None:
    places = {"127.0.0.1:50051": world.target, '"http://127.0.0.1:8080"': repr(world.settings.issuer)}
    (recipe,) = PAGE["Verify"]
    token = world.issue(world.new_client(), audiences=["api"]).access_token
    (tmp_path / "token").write_text(token)

    good = recipe.run(tmp_path, {}, places)
    world.revoke(token=token)
    taken_back = recipe.run(tmp_path, {}, places)

    assert (good, taken_back) == ("reports\n", "REVOKED\n")
    assert [heading for heading, blocks in PAGE.items() if blocks] == ["Verify"]
