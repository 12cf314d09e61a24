"""Helpers that issue, verify and revoke tokens of the first administrator, for tests of store faults."""

from datetime import timedelta

from identity_client import IdentityClient, Rejected, UnavailableError
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
    return not refusal(client, token)


def refusal(client: IdentityClient, token: str) -> str:
    """Revoke the token; return "" on success, and the text of the UNAVAILABLE error otherwise."""
    try:
        client.revoke_token(token)
    except UnavailableError as error:
        return str(error) or "UNAVAILABLE"
    return ""


def said_by(client: IdentityClient, token: str) -> str:
    """Verify a token; return "VERIFIED", "UNAVAILABLE", or the reason of the rejection."""
    try:
        said = client.verify(token, any_audience=True)
    except UnavailableError:
        return "UNAVAILABLE"
    return said.reason if isinstance(said, Rejected) else "VERIFIED"
