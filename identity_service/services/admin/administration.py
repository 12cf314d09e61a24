"""The use cases that change clients, users and trusted issuers."""

from dataclasses import dataclass

from identity_service.services.admin.clients import Clients
from identity_service.services.admin.issuers import TrustedIssuers
from identity_service.services.admin.users import NewUser, Users

__all__ = ["Administration", "NewUser"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """The use cases that change clients, users and trusted issuers."""

    clients: Clients
    users: Users
    issuers: TrustedIssuers
