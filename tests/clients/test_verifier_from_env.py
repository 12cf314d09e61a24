"""A local verifier that finds its service and gets its own token by environment variables."""

from collections.abc import Iterator

import pytest

from identity_client import LocalVerifier, NotFreshError, Rejected, Verified
from identity_client.testing import ServiceUnderTest, service_process
from identityapi.v1.trust_service_pb2 import KEY_STATE_SIGNING
from tests.patience import until

pytestmark = pytest.mark.usefixtures("both_kinds")


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceUnderTest]:
    with service_process(tls=True) as service:
        service.create_client("verifier", audiences=["identity-service"], scopes=["identity.verify"])
        service.create_client("reports", audiences=["api"], scopes=["read"])
        yield service


def test_it_verifies_over_tls_with_a_token_of_its_own(service: ServiceUnderTest) -> None:
    token = service.client_token("reports", audience="api")
    with LocalVerifier.from_env(service.environment("verifier")) as verifier:
        verifier.wait_ready()
        assert isinstance(verifier.verify(token, audiences=["api"]), Verified)


def test_it_goes_on_after_the_key_of_its_own_token_was_retired(service: ServiceUnderTest) -> None:
    before = service.client_token("reports", audience="api")
    with LocalVerifier.from_env(service.environment("verifier")) as verifier:
        verifier.wait_ready()
        signing = next(key for key in service.admin.list_keys() if key.state == KEY_STATE_SIGNING)
        service.admin.retire_key(signing.key_id)
        until(lambda: isinstance(verifier.verify(before, audiences=["api"]), Rejected))

        after = service.client_token("reports", audience="api")

        def is_verified() -> bool:
            try:
                return isinstance(verifier.verify(after, audiences=["api"]), Verified)
            except NotFreshError:
                return False

        until(is_verified)
        service.revoker.revoke_token(after)
        until(lambda: isinstance(verifier.verify(after, audiences=["api"]), Rejected))


def test_without_a_credential_it_says_what_the_service_refuses(service: ServiceUnderTest) -> None:
    with LocalVerifier.from_env(service.environment()) as verifier:
        until(lambda: "authorization" in said(verifier))


def test_the_log_names_the_service_for_which_its_client_may_have_no_token(
    service: ServiceUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    with LocalVerifier.from_env(service.environment("reports")):
        until(lambda: "for identity-service: the principal may not" in caplog.text)


def said(verifier: LocalVerifier) -> str:
    try:
        verifier.verify("a.b.c", any_audience=True)
    except NotFreshError as error:
        return str(error)
    return ""


def test_contradicting_variables_are_named() -> None:
    with pytest.raises(ValueError, match="IDENTITY_CLIENT_SECRET and IDENTITY_PRIVATE_KEY_FILE"):
        LocalVerifier.from_env({"IDENTITY_CLIENT_SECRET": "s", "IDENTITY_PRIVATE_KEY_FILE": "f"})
