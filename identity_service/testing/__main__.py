"""`python -m identity_service.testing`, with which `identity_client.testing` runs a service as a process."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from identity_service.domain.errors import ConfigurationError
from identity_service.testing import service


def main() -> None:
    """Serve as the JSON text in the only argument says, until standard input ends."""
    plan = json.loads(sys.argv[1])
    try:
        _serve(tls=plan["tls"], settings=plan["settings"])
    except ConfigurationError as error:
        sys.exit(f"identity-service: {error}")


def _serve(*, tls: bool, settings: Mapping[str, Any]) -> None:
    with service(tls=tls, settings=settings) as running:
        found = {
            "target": running.target,
            "issuer": running.issuer,
            "ca_file": str(running.ca_file or ""),
            "admin_client_id": running.admin_client_id,
            "admin_client_secret": running.admin_client_secret,
        }
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
