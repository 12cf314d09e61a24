"""The nonces of DPoP proofs (RFC 9449 section 8), derived from keys that every process has.

    base64url( HMAC-SHA-256( refresh key, context ‖ number of the five-minute interval )[:16] )

No process keeps state, and all agree, since the refresh keys are in the change log. Refresh tokens are MACs
under the same keys, but of inputs that begin with another context, so neither can be taken for the other.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import Final

from identity_service.domain.ids import base64url

NONCE_INTERVAL: Final = 300
"""The seconds after which there is a new nonce. The one before is accepted for as long again."""
_NONCE_BYTES: Final = 16
_CONTEXT: Final = b"identityapi.v1 DPoP nonce\0"


def accepted_nonces(keys: Sequence[bytes], unix: float) -> tuple[str, ...]:
    """Return the nonces of this interval and the one before under each key, the current one first.

    `keys` are the refresh keys that are valid, the one in use first; `unix` is the time in Unix seconds.
    """
    interval = int(unix // NONCE_INTERVAL)
    return tuple(_derive(key, number) for number in (interval, interval - 1) for key in keys)


def _derive(key: bytes, interval: int) -> str:
    mac = hmac.new(key, _CONTEXT + struct.pack(">Q", interval), hashlib.sha256)
    return base64url(mac.digest()[:_NONCE_BYTES])
