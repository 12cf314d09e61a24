"""DPoP proofs in gRPC metadata: a call with the metadata has a proof, and its response has the next nonce."""

from typing import cast

import grpc
import pytest

from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.proofs import CallProofs
from identity_service.transport.quotas import Peers


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def call(*metadata: tuple[str, str]) -> Call:
    context = cast("grpc.ServicerContext", Context(*metadata))
    proofs = CallProofs(["identity.example"], lambda: None)
    return Call(
        context=context,
        method="/s/M",
        request_id="",
        caller=None,
        peers=Peers(()),
        proofs=proofs,
        data=b"",
    )


def test_a_call_shows_a_proof_if_it_has_the_metadata_even_an_empty_one() -> None:
    assert call(("authorization", "DPoP x"), ("dpop", "a proof")).shows_proof
    assert call(("dpop", "")).shows_proof
    assert not call(("authorization", "DPoP x"), ("dpop-nonce", "a nonce")).shows_proof


@pytest.mark.parametrize(("nonce", "metadata"), [("a nonce", (("dpop-nonce", "a nonce"),)), (None, ())])
def test_the_next_nonce_is_sent_only_if_proofs_need_one(
    nonce: str | None, metadata: tuple[tuple[str, str], ...]
) -> None:
    assert CallProofs(["identity.example"], lambda: nonce).next_nonce() == metadata
