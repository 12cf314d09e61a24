"""The value classes of the use cases are frozen, and their constructors take keywords only."""

import pytest

from identity_service import services
from identity_service.services.admin.clients import Clients
from identity_service.services.admin.issuers import TrustedIssuers
from identity_service.services.admin.users import Users
from identity_service.services.authenticate import Authenticator
from identity_service.services.client_proofs import ClientProofs
from identity_service.services.exchange import Exchanger
from identity_service.services.id_jags import IdJags
from identity_service.services.introspect import Introspector
from identity_service.services.issue import TokenIssuer
from identity_service.services.refresh import Refresher
from identity_service.services.restore import Restore
from identity_service.services.revoke import Revoker
from identity_service.services.rewrap import Rewrap
from identity_service.services.rotation import Rotation
from tests.values import is_value, values_of

USE_CASES = {
    Authenticator,
    ClientProofs,
    Clients,
    Exchanger,
    IdJags,
    Introspector,
    TokenIssuer,
    Refresher,
    Restore,
    Revoker,
    Rewrap,
    Rotation,
    TrustedIssuers,
    Users,
}
"""Use cases that hold only their parts, each of another type, and are created in one place."""


@pytest.mark.parametrize("found", list(values_of(services)), ids=lambda found: found.__name__)
def test_a_value_is_frozen_slotted_and_made_with_named_members(found: type) -> None:
    assert is_value(found) is (found not in USE_CASES)
