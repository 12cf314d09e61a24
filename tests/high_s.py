"""Changes an ECDSA signature into its other valid form, with n - s for s (SEC 1, section 4.1.4)."""

import base64

from tests.curve_orders import ECDSA_ORDERS


def twin(token: str) -> str:
    """Return this ES256 token with the other valid form of its signature."""
    message, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    s = ECDSA_ORDERS["ES256"] - int.from_bytes(raw[32:])
    other = raw[:32] + s.to_bytes(32)
    return f"{message}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"
