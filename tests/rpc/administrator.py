"""A client of AdminService for tests, which returns refusals as values.

It asserts that calls that must be refused are refused, and leaves all else to the tests.
"""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest

from identity_service.domain.audit import AuditEvent, AuditFilter
from identityapi.v1 import admin_service_pb2 as pb
from identityapi.v1 import admin_service_pb2_grpc as rpc
from tests.patience import PATIENCE
from tests.rpc.world import Failure, World, bearer, failure

SERVICE = "identity-service"
"""The audience of a token that authenticates the caller of a method of the service itself."""


class Administrator:
    """A caller of AdminService. `administrator.call("GetUser", username="ana")` sends one request."""

    def __init__(self, world: World, token: str) -> None:
        self.token = token
        self._stub = rpc.AdminServiceStub(world.channel)

    def call(self, method: str, **fields: Any) -> Any:
        request = getattr(pb, f"{method}Request")(**fields)
        return getattr(self._stub, method)(request, metadata=bearer(self.token), timeout=PATIENCE)

    def refused(self, method: str, **fields: Any) -> Failure:
        return fails(lambda: self.call(method, **fields))

    def invalid(self, method: str, **fields: Any) -> list[str]:
        """Make a call that must be refused with INVALID_FIELD; return the names of its invalid fields."""
        found = self.refused(method, **fields)
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        return sorted(found.fields)

    def pages(self, method: str, entries: str, **fields: Any) -> list[list[Any]]:
        """Return all pages of a list method; `entries` names the field of the answer that holds the list."""
        found, token = [], ""
        while True:
            answer = self.call(method, page_token=token, **fields)
            found.append(list(getattr(answer, entries)))
            token = answer.next_page_token
            if not token:
                return found


def fails(call: Callable[[], object]) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return failure(error.value)


def events(world: World, target: str) -> Sequence[AuditEvent]:
    """Return the audit events about a principal, the oldest first."""
    found, _ = world.store.audit.list_newest(AuditFilter(principal=target), limit=1000)
    return [stored.event for stored in reversed(found) if stored.event.target == target]
