"""The errors for arguments that a guard cannot use name the argument."""

import asyncio
from typing import Any, Final

import pytest

from identity_client import AsyncIdentityClient, LocalVerifier
from identity_client.asgi import GuardMiddleware, HttpPolicy
from identity_client.grpc import Guard, Policy, aio
from tests.clients.guard.conftest import Start
from tests.clients.guard.refusals import bearer, refusal

POLICY: Final = Policy("reports", {"/reports.v1.Reports/Get": ["read"]})
HTTP_POLICY: Final = HttpPolicy("reports", {"GET /reports": ["read"]})


def middleware(verifier: Any, policy: Any) -> GuardMiddleware:
    async def app(*_: Any) -> None: ...

    return GuardMiddleware(app, verifier=verifier, policy=policy)


@pytest.mark.parametrize(
    ("make", "policy"), [(Guard, POLICY), (aio.Guard, POLICY), (middleware, HTTP_POLICY)]
)
def test_a_guard_names_a_verifier_or_a_policy_that_is_none(
    make: Any, policy: object, verifier: LocalVerifier
) -> None:
    with pytest.raises(TypeError, match=r"as its policy, not <class '.*LocalVerifier'>"):
        make(policy, verifier)
    with pytest.raises(TypeError, match="as its verifier, not <class 'str'>"):
        make("reports:443", policy)


@pytest.mark.parametrize(
    ("make", "policy"), [(Guard, POLICY), (aio.Guard, POLICY), (middleware, HTTP_POLICY)]
)
def test_a_guard_takes_no_verifier_whose_answer_has_to_be_awaited(make: Any, policy: object) -> None:
    async def make_with_client() -> None:
        async with AsyncIdentityClient("localhost:1") as client:
            make(client, policy)

    with pytest.raises(TypeError, match=r"as its verifier, not <class '.*AsyncIdentityClient'>"):
        asyncio.run(make_with_client())


@pytest.mark.parametrize("answer", [None, True, object()])
def test_a_call_is_refused_unless_the_verifier_says_that_the_token_is_verified(
    start: Start, answer: object
) -> None:
    """A program may pass a verifier class of its own."""

    class Verifier:
        def verify(self, *_: object, **__: object) -> object:
            return answer

    with start(Verifier()) as client:
        assert refusal(client.call, "Get", bearer("a token")).code == "INTERNAL"
