"""Nothing in this folder waits for a circuit breaker."""

import pytest

from identity_service.storage.redis.client import circuit_breaker as circuit
from identity_service.storage.redis.client import node


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write looks at the set-up of Redis, and each heartbeat tries a server that was away."""
    monkeypatch.setattr(node, "_LOOK_INTERVAL", 0.0)
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_LONGEST_REFUSAL"):
        monkeypatch.setattr(circuit, name, 0.0)
