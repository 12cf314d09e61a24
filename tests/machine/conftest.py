"""The fixture that keeps the tests of the state machine from waiting for intervals of the Redis client."""

import pytest

from identity_service.storage.redis.client import circuit_breaker as circuit
from identity_service.storage.redis.client import node


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the configuration of Redis at each write, and let the circuit breaker never pause calls."""
    monkeypatch.setattr(node, "_LOOK_INTERVAL", 0.0)
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_LONGEST_REFUSAL"):
        monkeypatch.setattr(circuit, name, 0.0)
