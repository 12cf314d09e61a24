"""Tokens of the first administrator, and whether revoking one is acknowledged: what faults of stores ask."""

from datetime import timedelta

from identity_client import IdentityClient, UnavailableError
from tests.e2e.process import Installation


def issue(client: IdentityClient, installation: Installation, count: int) -> list[str]:
    environment = installation.environment
    return [
        client.issue_with_secret(
            environment["IDENTITY_CLIENT_ID"],
            environment["IDENTITY_CLIENT_SECRET"],
            lifetime=timedelta(minutes=15),
        ).access_token
        for _ in range(count)
    ]


def acknowledges(client: IdentityClient, token: str) -> bool:
    try:
        client.revoke_token(token)
    except UnavailableError:
        return False
    return True
