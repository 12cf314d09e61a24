"""Random ids and names are long enough that they cannot be guessed."""

import base64
from collections.abc import Callable

import pytest

from identity_service.domain.ids import new_epoch, new_link, new_session_id, new_token_id, new_user_id

MANY = 1_000
BITS = 128


@pytest.mark.parametrize("draw", [new_token_id, new_session_id])
def test_ids_of_tokens_and_sessions_have_128_random_bits(draw: Callable[[], str]) -> None:
    """In many ids, every bit is zero in some and one in others: no bit is fixed."""
    drawn = [base64.urlsafe_b64decode(draw() + "==") for _ in range(MANY)]
    numbers = [int.from_bytes(raw) for raw in drawn]
    ever_one, always_one = 0, 2**BITS - 1
    for number in numbers:
        ever_one |= number
        always_one &= number

    assert {len(raw) * 8 for raw in drawn} == {BITS}
    assert len(set(numbers)) == MANY
    assert (ever_one, always_one) == (2**BITS - 1, 0)


@pytest.mark.parametrize(("draw", "length"), [(new_user_id, 22), (new_epoch, 16), (new_link, 11)])
def test_a_name_of_a_user_a_log_or_an_entry_has_at_least_64_random_bits(
    draw: Callable[[], str], length: int
) -> None:
    drawn = {draw() for _ in range(MANY)}

    assert len(drawn) == MANY
    assert {len(name) for name in drawn} == {length}
