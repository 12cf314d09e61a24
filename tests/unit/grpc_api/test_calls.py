"""The client certificate of a call, read from the properties of its connection, and the caller it proves."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from identity_service.grpc_api.calls import certificate_of
from identity_service.grpc_api.gate import CallerGate
from identity_service.grpc_api.method_spec import Access, Rule
from identity_service.grpc_api.proofs import CallProofs
from identity_service.services.directory import Directory
from identity_service.services.verify import StoreReadRequiredError
from identity_service.transport.quotas import Peers
from tests.tls import Certifier


class _Context:
    """The part of grpcio's context that describes the connection."""

    def __init__(self, pem: bytes, *, resumed: bool) -> None:
        self._properties = {
            "x509_pem_cert": [pem],
            "ssl_session_reused": [b"true" if resumed else b"false"],
        }

    def peer(self) -> str:
        return "ipv4:192.0.2.7:50000"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._properties


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("lifetime", [timedelta(minutes=-5), timedelta(days=1)])
def test_a_session_that_is_resumed_proves_nothing_after_its_certificate_has_expired(
    tmp_path: Path, resumed: bool, lifetime: timedelta
) -> None:
    """A full handshake verifies the certificate; a resumed TLS session does not."""
    holder = Certifier(tmp_path).client("c", "c.example", lifetime=lifetime)
    context: Any = _Context(holder.certificate_file.read_bytes(), resumed=resumed)

    found = certificate_of(context)

    assert (found is None) is (resumed and lifetime < timedelta())


class _UnreadStore:
    """The records of a store; reading one fails the test."""

    def find_client(self, name: str) -> None:
        raise AssertionError(f"the client of {name} was read")


def test_an_event_loop_does_not_read_the_client_of_a_certificate_from_the_store(tmp_path: Path) -> None:
    """Reading would hold up all other calls, for seconds if the store does not answer."""
    nothing: Any = None
    records: Any = _UnreadStore()
    gate = CallerGate(
        nothing,
        Directory(records),
        nothing,
        Peers(()),
        nothing,
        CallProofs((), lambda: None),
        audience="identity",
        require_caller_auth=True,
    )
    context: Any = _Context(
        Certifier(tmp_path).client("c", "c.example").certificate_file.read_bytes(), resumed=False
    )

    with pytest.raises(StoreReadRequiredError):
        gate.admit("/m", Rule(access=Access.SCOPE, scope="s"), context, may_wait=False)
