"""The values of the use cases cannot be changed, and are made with named members."""

import pytest

from identity_service import services
from tests.values import is_value, values_of


@pytest.mark.parametrize("found", list(values_of(services)), ids=lambda found: found.__name__)
def test_a_value_is_frozen_slotted_and_made_with_named_members(found: type) -> None:
    assert is_value(found)
