"""The service that other programs start in their tests, in a process of its own.

`make test-oldest` runs these tests too; the Python in TESTS_SERVER_PYTHON then runs the service.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from identity_client import (
    AlreadyExistsError,
    ClientOptions,
    IdentityClient,
    LocalVerifier,
    Rejected,
    UnauthenticatedError,
    Verified,
)
from identity_client.testing import ServiceUnderTest, service_process
from tests.patience import PATIENCE, until

PYTHON: Final = os.environ.get("TESTS_SERVER_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def with_tls() -> Iterator[ServiceUnderTest]:
    with service_process(tls=True, settings={"access_token_lifetime": "5m"}, python=PYTHON) as running:
        yield running


def test_clients_and_users_get_tokens_that_verify_until_they_are_revoked(with_tls: ServiceUnderTest) -> None:
    with_tls.create_client("reports", audiences=["api"], scopes=["read"])
    ana = with_tls.create_user("ana", "correct horse battery", audiences=["api"], scopes=["read"])
    token = with_tls.client_token("reports", audience="api")
    signed_in = with_tls.sign_in("ana", audience="api")

    verified = with_tls.revoker.verify(signed_in.access_token, audiences=["api"])
    assert isinstance(verified, Verified)
    assert verified.subject == ana.user_id
    assert isinstance(with_tls.revoker.verify(token, audiences=["api"]), Verified)

    with_tls.revoker.revoke_token(token)
    rejected = with_tls.revoker.verify(token, audiences=["api"])
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "REVOKED"


def test_with_tls_a_verifier_needs_the_environment_of_a_client_that_may_verify(
    with_tls: ServiceUnderTest,
) -> None:
    with (
        IdentityClient(with_tls.target, options=ClientOptions(tls=with_tls.tls)) as stranger,
        pytest.raises(UnauthenticatedError),
    ):
        stranger.verify("a.b.c", any_audience=True)

    with_tls.create_client("verifier", audiences=["identity-service"], scopes=["identity.verify"])
    found = with_tls.environment("verifier")
    assert found["IDENTITY_TARGET"] == with_tls.target
    bearer = with_tls.client_token("verifier", audience="identity-service", scopes=["identity.verify"])
    options = ClientOptions(tls=with_tls.tls, bearer=bearer)
    with LocalVerifier(with_tls.target, issuer=found["IDENTITY_ISSUER"], options=options) as verifier:
        verifier.wait_ready()


def test_no_secret_is_shown(with_tls: ServiceUnderTest) -> None:
    secret = with_tls.create_client("shown")
    assert secret == with_tls.environment("shown")["IDENTITY_CLIENT_SECRET"]
    assert secret not in repr(with_tls)
    assert with_tls.admin_client_secret not in repr(with_tls)


def test_a_name_is_created_once_and_before_it_is_used(with_tls: ServiceUnderTest) -> None:
    with_tls.create_client("once")
    with pytest.raises(AlreadyExistsError):
        with_tls.create_client("once")
    with pytest.raises(KeyError, match="nobody was not created here: call create_client first"):
        with_tls.client_token("nobody", audience="api")


def test_a_setting_that_does_not_exist_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(RuntimeError, match="has not started"),
        service_process(settings={"lisen": "x"}, python=PYTHON),
    ):
        pass
    assert "lisen: is not a setting; did you mean listen?" in capfd.readouterr().err


def accepts_connections(target: str) -> bool:
    host, port = target.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except ConnectionError:
        return False
    return True


def test_the_service_ends_with_the_process_that_started_it() -> None:
    program = (
        "from identity_client.testing import service_process\n"
        f"with service_process(python={PYTHON!r}) as service:\n"
        "    print(service.target, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        target = starter.stdout.readline().strip()
        assert accepts_connections(target)
        starter.kill()
    until(lambda: not accepts_connections(target))
