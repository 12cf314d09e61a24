"""`identity doctor` on a real Redis: each finding with the command that mends it, until there is none."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def findings(run: Run, run_json: Callable[..., Any], server: RedisServer) -> Callable[[int], list[Any]]:
    """What the doctor says of the store's set-up, and how it ends."""
    run("init", IDENTITY_STORE=server.url)

    def findings(code: int) -> list[Any]:
        lines = run_json("doctor", code=code, IDENTITY_STORE=server.url)
        return [line for line in lines if line["check"] == "store set-up"]

    return findings


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("appendfsync", "no", "always"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
    ],
)
def test_it_says_what_to_run_and_is_content_once_it_was_run(
    server: RedisServer, findings: Callable[[int], list[Any]], name: str, wrong: str, right: str
) -> None:
    server.configure(name, wrong)
    (found,) = findings(1)
    assert found["result"] == "FAIL"
    assert f"CONFIG SET {name} {right}" in found["advice"]

    server.configure(name, right)
    (found,) = findings(0)
    assert (found["result"], found["advice"]) == ("ok", "durability local")


def test_it_names_a_redis_that_is_away(run_json: Callable[..., Any], server: RedisServer) -> None:
    url = server.url
    server.stop()
    lines = run_json("doctor", code=1, IDENTITY_STORE=url)
    assert [line["result"] for line in lines if line["check"] == "store"] == ["FAIL"]
