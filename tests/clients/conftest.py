"""The kinds of clients that the tests of a module run with."""

from functools import partial

import pytest

from tests.clients.both_kinds import TWINS, Blocking, Loop


@pytest.fixture(scope="session")
def event_loop_of_tests() -> Loop:
    return Loop()


@pytest.fixture(params=["threads", "asyncio"])
def both_kinds(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, event_loop_of_tests: Loop
) -> str:
    kind = str(request.param)
    if kind == "asyncio":
        for name, twin in TWINS.items():
            if hasattr(request.module, name):
                monkeypatch.setattr(request.module, name, partial(Blocking, event_loop_of_tests, twin))
    return kind
