"""A fake `CallerGate` for tests."""

from typing import Any

from identity_service.grpc_api.method_spec import Rule
from identity_service.grpc_api.proofs import CallProofs


class OpenGate:
    """A gate that lets every call through without a caller."""

    proofs = CallProofs((), lambda: None)

    def applies(self, rule: Rule, request: Any) -> bool:
        return False
