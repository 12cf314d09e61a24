"""The choice of the key that signs, and the repr of a stored key."""

from datetime import timedelta
from itertools import permutations

import pytest

from identity_service.domain.keys import KeyPurpose, StoredKey, key_in_use
from tests.unit.domain.samples import MOMENT, START, a_key

OLD = a_key("old", activate_time=START - timedelta(days=1))
NOW = a_key("now")
STANDBY = a_key("standby", activate_time=START + MOMENT)
REFRESH = a_key("refresh", purpose=KeyPurpose.REFRESH, algorithm="HS256", public_jwk=None)
ALL = [OLD, NOW, STANDBY, REFRESH]


@pytest.mark.parametrize("keys", list(permutations(ALL)))
def test_the_key_activated_last_is_in_use_and_no_future_key(keys: tuple[StoredKey, ...]) -> None:
    assert key_in_use(keys, KeyPurpose.SIGN, START) == NOW
    assert key_in_use(keys, KeyPurpose.SIGN, START - MOMENT) == OLD
    assert key_in_use(keys, KeyPurpose.SIGN, START + MOMENT) == STANDBY


def test_a_key_is_used_for_its_own_purpose_only() -> None:
    assert key_in_use(ALL, KeyPurpose.REFRESH, START) == REFRESH
    assert key_in_use([NOW], KeyPurpose.REFRESH, START) is None


def test_there_may_be_no_key_in_use() -> None:
    assert key_in_use([], KeyPurpose.SIGN, START) is None
    assert key_in_use([STANDBY], KeyPurpose.SIGN, START) is None


def test_of_two_keys_activated_at_once_every_process_takes_the_same() -> None:
    twins = [a_key("a"), a_key("b")]
    assert (
        key_in_use(twins, KeyPurpose.SIGN, START)
        == key_in_use(twins[::-1], KeyPurpose.SIGN, START)
        == a_key("b")
    )


def test_the_repr_of_a_stored_key_hides_the_sealed_text() -> None:
    assert "sealed-text" not in repr(NOW)
    assert NOW.id == "now"
