"""DPoP proofs in metadata: a call without one causes no work and cannot fail for it."""

from typing import cast

import grpc
import pytest

from identity_service.grpc_api.proofs import CallProofs


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def context(*metadata: tuple[str, str]) -> grpc.ServicerContext:
    return cast("grpc.ServicerContext", Context(*metadata))


def test_only_the_answer_to_a_call_with_a_proof_has_the_next_nonce() -> None:
    proofs = CallProofs(["identity.example"], lambda: "a nonce")

    assert proofs.nonce_for(context(("dpop", "a proof"))) == (("dpop-nonce", "a nonce"),)
    assert proofs.nonce_for(context(("authorization", "Bearer x"))) == ()


def test_no_nonce_is_made_for_a_call_without_a_proof() -> None:
    def make() -> str:
        pytest.fail("a nonce was made")

    assert CallProofs(["identity.example"], make).nonce_for(context()) == ()
