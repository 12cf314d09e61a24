"""The value classes of the domain are frozen, and their constructors take keywords only."""

import pytest

from identity_service import domain
from identity_service.domain.attempts import Counts
from identity_service.domain.issuers import IssuerNames
from tests.values import is_value, values_of

OTHERS = {Counts, IssuerNames}
"""Exceptions: a counter, which exists to be changed, and names, whose constructor takes the current name
alone."""


@pytest.mark.parametrize("found", list(values_of(domain)), ids=lambda found: found.__name__)
def test_a_value_is_frozen_slotted_and_made_with_named_members(found: type) -> None:
    assert is_value(found) is (found not in OTHERS)
