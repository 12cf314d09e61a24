"""The service that other projects start within the process of their tests."""

import pytest

from identity_client import Verified
from identity_service.domain.errors import ConfigurationError
from identity_service.testing import service


def test_it_issues_and_verifies_in_this_process() -> None:
    with service() as running:
        running.create_client("reports", audiences=["api"], scopes=["read"])
        token = running.client_token("reports", audience="api")
        assert isinstance(running.identity.verify(token, audiences=["api"]), Verified)


def test_a_setting_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="lisen"), service(settings={"lisen": "x"}):
        pass
