"""Clients that present their certificate to a trusted proxy, which forwards it in a header of the request."""

import base64
from urllib.parse import urlencode

import pytest

from tests.http.site import Answer, Site
from tests.tls import Certifier, Holder

ASKED = urlencode({"grant_type": "client_credentials", "client_id": "reports"})
TRUSTING = pytest.mark.settings(
    trusted_proxies=("127.0.0.1/32",),
    client_certificate_header="client-cert",
    http_mtls_url="https://mtls.id.example",
)


def ask(site: Site, holder: Holder) -> Answer:
    return site.post("/oauth2/token", ASKED, client_cert=f":{base64.b64encode(holder.der).decode()}:")


@TRUSTING
def test_a_forwarded_certificate_authenticates_the_client_that_a_request_names(
    site: Site, certifier: Certifier
) -> None:
    site.world.new_client(certificates=("dns:reports.example",))

    granted = ask(site, certifier.client("c", "reports.example"))
    refused = ask(site, certifier.client("d", "other.example"))

    payload = base64.urlsafe_b64decode(granted.json["access_token"].split(".")[1] + "==")
    assert b'"x5t#S256"' in payload
    assert (refused.status, refused.json["error"]) == (401, "invalid_client")


@TRUSTING
def test_the_metadata_names_the_url_of_the_proxy(site: Site) -> None:
    document = site.get("/.well-known/oauth-authorization-server").json

    assert document["mtls_endpoint_aliases"]["token_endpoint"] == "https://mtls.id.example/oauth2/token"
    assert "tls_client_auth" in document["token_endpoint_auth_methods_supported"]


@pytest.mark.settings(trusted_proxies=("127.0.0.1/32",))
def test_without_the_setting_no_forwarded_certificate_is_believed(site: Site, certifier: Certifier) -> None:
    site.world.new_client(certificates=("dns:reports.example",))

    answer = ask(site, certifier.client("c", "reports.example"))

    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
