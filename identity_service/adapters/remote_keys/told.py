"""What the log says about the keys of an issuer. Fetches and reads none."""

from typing import Final

from identity_service.domain.ports import EventLog
from identity_service.jose.jwks import KeySet

_SHOWN: Final = 5


def keys_read(event_log: EventLog, issuer: str, found: KeySet) -> None:
    """Record that keys were read, how many count, and why others do not: of the first five."""
    values: dict[str, object] = {"keys": len(found.keys)}
    if found.unused:
        values |= {"unused": len(found.unused), "why": list(found.unused[:_SHOWN])}
    event_log.record("issuer_keys_read", issuer=issuer, **values)
