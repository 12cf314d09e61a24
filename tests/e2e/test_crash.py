"""Acknowledged writes are durable: the effects of Revoke and Refresh survive a `kill -9` of the service."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from identity_client import IdentityError, Rejected, Verified
from tests.e2e.process import Installation
from tests.ports import reserve_port

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "10"))
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def forked(installation: Installation) -> None:
    """Have the fork server start the service, since these tests start it many times."""
    installation.forked = True


@pytest.mark.slow
@pytest.mark.timeout(600 + 10 * ROUNDS)
def test_a_revocation_that_was_acknowledged_survives_a_crash(installation: Installation) -> None:
    """In each round a token is revoked and the service killed. At the end Verify must reject them all."""
    admin = installation.init()
    port = reserve_port()
    revoked: list[str] = []
    kept: list[str] = []
    for _ in range(ROUNDS):
        with installation.serve(port=port) as service, service.client() as client:
            tokens = [
                client.issue_with_secret(
                    admin["client_id"], admin["client_secret"], scopes=["identity.verify"]
                ).access_token
                for _ in range(2)
            ]
            client.revoke_token(tokens[0])
            service.kill()
        revoked.append(tokens[0])
        kept.append(tokens[1])

    with installation.serve(port=port) as service, service.client() as client:
        outcomes = [client.verify(token, any_audience=True) for token in revoked]
        controls = [client.verify(token, any_audience=True) for token in kept]

    assert len(revoked) == ROUNDS
    assert [o.reason for o in outcomes if isinstance(o, Rejected)] == ["REVOKED"] * ROUNDS
    assert all(isinstance(control, Verified) for control in controls)


@pytest.mark.slow
@pytest.mark.timeout(600 + 10 * ROUNDS)
def test_a_session_survives_crashes_in_the_middle_of_refreshes(installation: Installation) -> None:
    """The replies of the refreshes are lost at every crash, and the user must still stay signed in."""
    installation.init()
    installation.environment["IDENTITY_REFRESH_GRACE"] = "1h"  # a round is one refresh, however long it takes
    port = reserve_port()
    with installation.serve(port=port) as service, service.client() as client:
        service.create_user("ana", PASSWORD)
        token = client.issue_with_password("ana", PASSWORD).refresh_token
    rounds = max(3, ROUNDS // 4)
    for _ in range(rounds):
        with (
            installation.serve(port=port) as service,
            service.client(max_attempts=1) as client,
            ThreadPoolExecutor(4) as pool,
        ):
            calls = [pool.submit(client.refresh, token) for _ in range(8)]
            service.kill()
            answers = [call.result() for call in calls if not isinstance(call.exception(), IdentityError)]
        successors = {answer.refresh_token for answer in answers}
        assert len(successors) <= 1
        token = next(iter(successors), token)

    with installation.serve(port=port) as service, service.client() as client:
        renewed = client.refresh(token)
        assert isinstance(client.verify(renewed.access_token, audiences=["api"]), Verified)
