"""Issues, verifies, refreshes and revokes tokens with the Python client; the revoked tokens are then refused.

Run it against `make run`, which prints the command. Exits with 0 only if every step has the expected result.
"""

import argparse
import os
import sys

from identity_client import IdentityClient, Outcome, Rejected, Verified


def main() -> int:
    """Run every step, and return the exit code."""
    options = parse_arguments()
    with IdentityClient(options.target) as client:
        service = client.issue_with_secret(
            options.client_id, options.client_secret, audiences=[options.audience]
        )
        print(f"1. {options.client_id} proved itself by secret: {service}")

        person = client.issue_with_password(
            options.username, options.password, audiences=[options.audience], device="quickstart"
        )
        print(f"2. {options.username} signed in: {person}")

        outcome = client.verify(person.access_token, audiences=[options.audience])
        expect(isinstance(outcome, Verified), "3. the access token is good", outcome)

        renewed = client.refresh(person.refresh_token)
        again = client.refresh(person.refresh_token)
        same = renewed.refresh_token == again.refresh_token
        expect(same, "4. refreshed; a repeated call gave the same successor", renewed)

        revision = client.revoke_token(renewed.refresh_token, reason="quickstart: sign out")
        print(f"5. signed out, durable at revision {revision}")

        outcome = client.verify(
            renewed.access_token, audiences=[options.audience], at_least_revision=revision
        )
        refused = isinstance(outcome, Rejected) and outcome.reason == "REVOKED"
        expect(refused, "6. the access token is refused", outcome)
    return 0


def expect(right: bool, step: str, found: Outcome | object) -> None:
    """Print the result of a step, or exit with an error if the result is wrong."""
    if not right:
        sys.exit(f"FAILED: {step}: {found}")
    print(f"{step}: {found}")


def parse_arguments() -> argparse.Namespace:
    """Return the arguments. An argument that is not given is read from its environment variable."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=os.environ.get("IDENTITY_TARGET", "127.0.0.1:50051"))
    for name in ("client-id", "client-secret", "username", "password", "audience"):
        variable = "IDENTITY_" + name.replace("-", "_").upper()
        value = os.environ.get(variable)
        parser.add_argument(f"--{name}", default=value, required=value is None, help=f"or {variable}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
