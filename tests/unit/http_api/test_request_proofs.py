"""DPoP proofs in HTTP headers: which URIs a proof may name."""

from collections.abc import Sequence
from typing import Any

import pytest

from identity_service.domain.credential_errors import DpopProofRefusedError
from identity_service.domain.origin import NOWHERE
from identity_service.http_api.messages import HttpRequest
from identity_service.http_api.oauth.proofs import RequestProofs

PATH = "/oauth2/token"


def request() -> HttpRequest:
    values: Any = {"dpop": ("a proof",)}
    return HttpRequest(method="POST", path=PATH, query=b"", headers=values, body=b"", origin=NOWHERE)


def proofs(url: str, *authorities: str, also: Sequence[str] = ()) -> RequestProofs:
    return RequestProofs((url, *also), authorities, lambda: None)


def test_a_proof_may_be_for_each_name_of_the_endpoint() -> None:
    alias = f"https://mtls.example{PATH}"
    shown = proofs(f"https://Identity.example:443/a{PATH}", "other.example:8443", also=[alias])

    presented = shown.shown(request())

    assert presented is not None
    assert presented.uris == (
        f"https://identity.example/a{PATH}",
        alias,
        f"https://other.example:8443/a{PATH}",
    )


@pytest.mark.parametrize("issuer", ["https://ä.example", "https://identity.example/é", "https://h/%zz"])
def test_an_issuer_that_is_no_uri_takes_no_proofs_and_the_message_names_the_setting(issuer: str) -> None:
    with pytest.raises(DpopProofRefusedError) as refused:
        proofs(f"{issuer}{PATH}").shown(request())

    assert "`issuer`" in str(refused.value)


def test_another_name_of_such_an_endpoint_may_be_a_uri() -> None:
    shown = proofs(f"https://ä.example{PATH}", "xn--4ca.example").shown(request())

    assert shown is not None
    assert shown.uris == (f"https://xn--4ca.example{PATH}",)
