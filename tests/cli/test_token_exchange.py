"""`identity token exchange`: it reads tokens from files or standard input, and prints the new token."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run, RunJson
from tests.rpc.conftest import StartWorld, start_world
from tests.rpc.shop import ORDERS_API, STOCK_API, Shop

__all__ = ["start_world"]


@pytest.fixture
def shop(start_world: StartWorld) -> Shop:
    return Shop(start_world())


def by_orders(shop: Shop) -> dict[str, str]:
    secret = shop.orders.credential.client_secret
    return {"IDENTITY_TARGET": shop.world.target, "IDENTITY_CLIENT_SECRET": secret.client_secret}


EXCHANGE = ("token", "exchange", "--client-id", "orders")


def test_a_token_is_exchanged_and_verify_shows_its_actor(
    shop: Shop, run: Run, run_json: RunJson, tmp_path: Path
) -> None:
    held = shop.sign_in().access_token
    (tmp_path / "received.jwt").write_text(held + "\n")

    from_file = run_json(*EXCHANGE, "received.jwt", "-s", "read", "--lifetime", "60", **by_orders(shop))
    from_input = run(*EXCHANGE, "-", "--print", "access_token", stdin=held + "\n", **by_orders(shop))

    assert (from_file["audiences"], from_file["scopes"]) == ([STOCK_API], ["read"])
    assert not from_file["refresh_token"]
    for token in (from_file["access_token"], from_input.stdout.strip()):
        said = run_json("token", "verify", "-", "-a", STOCK_API, stdin=token, **by_orders(shop))
        assert said["subject"] == shop.ana.id
        assert said["actors"] == [{"subject": "orders", "client_id": "orders"}]


def test_another_actor_is_named_by_the_file_of_its_token(
    shop: Shop, run_json: RunJson, tmp_path: Path
) -> None:
    agent = shop.world.new_client("agent", audiences=(ORDERS_API,))
    (tmp_path / "agent.jwt").write_text(shop.world.issue(agent).access_token)
    words = (*EXCHANGE, "-", "--actor-token-file", "agent.jwt")

    tokens = run_json(*words, stdin=shop.sign_in().access_token, **by_orders(shop))

    said = shop.world.verify(tokens["access_token"], audiences=[STOCK_API]).verified
    assert [actor.subject for actor in said.actors] == ["agent"]


def test_a_refused_exchange_ends_with_the_exit_code_of_a_refusal(shop: Shop, run: Run) -> None:
    refused = run(*EXCHANGE, "-", stdin="no.such.token", code=3, **by_orders(shop))

    assert "the subject_token was rejected: MALFORMED" in refused.stderr


def test_a_token_in_the_words_is_taken_for_a_file_and_not_repeated(shop: Shop, run: Run) -> None:
    held = shop.sign_in().access_token

    refused = run(*EXCHANGE, held, code=2, **by_orders(shop))

    assert "cannot be read" in refused.stderr
    assert held not in refused.output


def test_nothing_is_sent_for_an_empty_file_or_without_a_client(shop: Shop, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    held = shop.sign_in().access_token

    run(*EXCHANGE, "empty", code=2, **by_orders(shop))
    run(*EXCHANGE, "-", "--actor-token-file", "empty", stdin=held, code=2, **by_orders(shop))
    run("token", "exchange", "-", stdin=held, code=2, **by_orders(shop))
