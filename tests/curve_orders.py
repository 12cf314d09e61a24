"""The orders of the base points of elliptic curves, from which tests make forged signatures."""

from typing import Final

ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
ECDSA_ORDERS: Final = {
    "ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ES384": int(
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
    ),
}
