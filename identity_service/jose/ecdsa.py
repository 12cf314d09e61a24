"""ECDSA in the JWS form: the two integers of a signature concatenated (RFC 7518 section 3.4).

PyJWT reads and writes the keys. It can also sign, but it converts by way of hexadecimal text, and creates a
scheme object for each call.
"""

from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from jwt.algorithms import ECAlgorithm


class Ecdsa(ECAlgorithm):
    """A signer and verifier for the keys of one curve."""

    def __init__(self, curve: type[ec.EllipticCurve], digest: Any) -> None:
        super().__init__(digest, curve)
        self._scheme = ec.ECDSA(digest())
        self._width = (curve().key_size + 7) // 8

    def sign(self, msg: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return the signature of a message."""
        r, s = decode_dss_signature(key.sign(msg, self._scheme))
        return r.to_bytes(self._width, "big") + s.to_bytes(self._width, "big")

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:  # a public key, or a private one
        """Return whether a signature is valid."""
        if len(sig) != 2 * self._width:
            return False
        public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
        r, s = int.from_bytes(sig[: self._width], "big"), int.from_bytes(sig[self._width :], "big")
        try:
            public.verify(encode_dss_signature(r, s), msg, self._scheme)
        except InvalidSignature:
            return False
        return True


ES256: Final = Ecdsa(ec.SECP256R1, ECAlgorithm.SHA256)
ES384: Final = Ecdsa(ec.SECP384R1, ECAlgorithm.SHA384)
