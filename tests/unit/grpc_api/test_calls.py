"""The certificate of a call, as the properties of its connection give it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from identity_service.grpc_api.calls import certificate_of
from tests.tls import Certifier


class _Context:
    """The part of a context that says how the connection was made, as grpcio gives it."""

    def __init__(self, pem: bytes, *, resumed: bool) -> None:
        self._properties = {
            "x509_pem_cert": [pem],
            "ssl_session_reused": [b"true" if resumed else b"false"],
        }

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._properties


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("lifetime", [timedelta(minutes=-5), timedelta(days=1)])
def test_a_session_that_is_resumed_proves_nothing_after_its_certificate_has_expired(
    tmp_path: Path, resumed: bool, lifetime: timedelta
) -> None:
    """A handshake that resumes none verifies the certificate itself."""
    holder = Certifier(tmp_path).client("c", "c.example", lifetime=lifetime)
    context: Any = _Context(holder.certificate_file.read_bytes(), resumed=resumed)

    found = certificate_of(context)

    assert (found is None) is (resumed and lifetime < timedelta())
