"""The other valid form of an ECDSA signature: s → n - s (SEC 1 section 4.1.4 accepts both)."""

import base64

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def twin(token: str) -> str:
    """The same ES256 token with the other signature."""
    message, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    s = _P256_ORDER - int.from_bytes(raw[32:])
    other = raw[:32] + s.to_bytes(32)
    return f"{message}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"
