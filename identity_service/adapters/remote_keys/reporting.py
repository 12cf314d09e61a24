"""The log event about the keys of an issuer. The module fetches and parses no keys."""

from typing import Final

from identity_service.domain.ports import EventLog
from identity_service.jose.jwks import KeySet

_MAX_REASONS: Final = 5
"""The largest number of unusable keys that one log event describes."""


def keys_read(event_log: EventLog, issuer: str, found: KeySet) -> None:
    """Record how many keys of an issuer can be used, and for the first five others why they cannot."""
    values: dict[str, object] = {"keys": len(found.keys)}
    if found.unused:
        values |= {"unused": len(found.unused), "why": list(found.unused[:_MAX_REASONS])}
    event_log.record("issuer_keys_read", issuer=issuer, **values)
