"""DPoP nonces: all processes with the same keys make the same ones, which are valid for two intervals."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.dpop import NONCE_INTERVAL, accepted_nonces
from identity_service.domain.ids import KeyId, SessionId, base64url
from identity_service.domain.secret import RefreshToken, derive_refresh_token

KEY, OTHER = b"k" * 32, b"o" * 32
START = 5_900_000.0 * NONCE_INTERVAL
"""A time in seconds at which an interval begins."""


def test_the_current_nonce_is_accepted_in_its_interval_and_in_the_next() -> None:
    nonce = accepted_nonces([KEY], START)[0]

    for late in (0, 1, NONCE_INTERVAL - 0.001, NONCE_INTERVAL, 2 * NONCE_INTERVAL - 0.001):
        assert nonce in accepted_nonces([KEY], START + late)
    for wrong in (-0.001, 2 * NONCE_INTERVAL):
        assert nonce not in accepted_nonces([KEY], START + wrong)


def test_a_nonce_is_accepted_under_each_valid_key_and_made_with_the_first() -> None:
    old, new = accepted_nonces([OTHER], START), accepted_nonces([KEY, OTHER], START)

    assert set(old) < set(new)
    assert new[0] == accepted_nonces([KEY], START)[0]
    assert len(set(new)) == 4


def test_the_derivation_is_the_documented_one() -> None:
    """Processes of other versions must derive the same nonces."""
    message = b"identityapi.v1 DPoP nonce\0" + (5_900_000).to_bytes(8)
    mac = hmac.new(KEY, message, hashlib.sha256).digest()

    assert accepted_nonces([KEY], START)[0] == base64url(mac[:16])


@given(st.integers(1, 2**32 - 1))
def test_no_part_of_a_refresh_token_is_a_nonce(number: int) -> None:
    key_id, sid = KeyId(base64url(bytes(8))), SessionId(base64url(bytes(16)))
    token = derive_refresh_token(KEY, RefreshToken(key_id=key_id, session_id=sid, number=number))

    assert not any(nonce in token for nonce in accepted_nonces([KEY], number * NONCE_INTERVAL))
