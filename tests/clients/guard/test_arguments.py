"""Arguments that guards cannot use are named."""

from typing import Any, Final

import pytest

from identity_client import LocalVerifier
from identity_client.asgi import GuardMiddleware, HttpPolicy
from identity_client.grpc import Guard, Policy, aio

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
