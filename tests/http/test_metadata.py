"""The metadata documents change when features are enabled or disabled while the service runs."""

import pytest

from identity_service.domain.ids import FIRST_PARTY_CLIENT
from identity_service.domain.principals import Grant
from tests.http.site import Site
from tests.patience import until
from tests.rpc.world import Principal, client_secret


@pytest.mark.parametrize(
    "path", ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]
)
def test_the_method_none_is_claimed_while_a_client_that_only_names_itself_is_enabled(
    site: Site, path: str
) -> None:
    def claims_none() -> bool:
        return "none" in site.get(path).json["token_endpoint_auth_methods_supported"]

    assert claims_none(), "the built-in client is one"

    built_in = Principal(id=FIRST_PARTY_CLIENT, credential=client_secret(FIRST_PARTY_CLIENT, ""))
    site.world.disable_client(built_in)
    until(lambda: not claims_none())

    site.world.new_client("app", public=True, grants=(Grant.PASSWORD,))
    until(claims_none)
