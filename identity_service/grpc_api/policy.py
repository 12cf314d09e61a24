"""The access policy of every method, in one table. A method without an entry is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from identity_service.domain.grants import SCOPE_ADMIN, SCOPE_REVOKE, SCOPE_VERIFY

_ADMIN: Final = "/identityapi.v1.AdminService"
_IDENTITY: Final = "/identityapi.v1.IdentityService"
_TRUST: Final = "/identityapi.v1.TrustService"


class Access(Enum):
    """The condition that a caller of a method must meet."""

    OPEN = auto()
    """None: the request carries its own proof, or there is nothing to protect."""
    SCOPE = auto()
    """The caller has the scope."""
    OWN_OR_SCOPE = auto()
    """The caller is authenticated. For objects that are not its own it needs the scope.

    A party that acts for another one (token exchange) needs the scope for the objects of that one, too.
    """
    SCOPE_WHERE_CONFIGURED = auto()
    """The caller has the scope, if the setting `require_caller_auth` is on; else none."""
    HOLDER_OR_SCOPE = auto()
    """None if the request contains the token that it is about; else the caller has the scope."""


class Pool(Enum):
    """The thread pool that runs a method."""

    MEMORY = auto()
    """Threads that run only methods that answer from memory."""
    WORK = auto()
    """Threads for methods that may wait for the store."""


class Streams(Enum):
    """The kinds of streams whose number is limited; docs/limits.md names the settings."""

    WATCH = auto()
    HEALTH = auto()
    REFLECTION = auto()
    AUDIT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The policy of one method."""

    access: Access
    scope: str = ""
    pool: Pool = Pool.WORK
    quiet: bool = False
    """Whether calls that succeed are logged at level debug only."""
    streams: Streams | None = None
    """The limit under which an open call of a streaming method counts; None for other methods."""


_OPEN_MEMORY: Final = Rule(access=Access.OPEN, pool=Pool.MEMORY, quiet=True)
_REFLECTION: Final = Rule(access=Access.OPEN, streams=Streams.REFLECTION)
_ADMINISTRATION: Final = Rule(access=Access.SCOPE, scope=SCOPE_ADMIN)
_OWN_OR_ADMIN: Final = Rule(access=Access.OWN_OR_SCOPE, scope=SCOPE_ADMIN)

POLICY: Final[Mapping[str, Rule]] = {
    f"{_IDENTITY}/Issue": Rule(access=Access.OPEN),
    f"{_IDENTITY}/Verify": Rule(
        access=Access.SCOPE_WHERE_CONFIGURED, scope=SCOPE_VERIFY, pool=Pool.MEMORY, quiet=True
    ),
    f"{_IDENTITY}/VerifyBatch": Rule(
        access=Access.SCOPE_WHERE_CONFIGURED, scope=SCOPE_VERIFY, pool=Pool.MEMORY, quiet=True
    ),
    f"{_IDENTITY}/Refresh": Rule(access=Access.OPEN),
    f"{_IDENTITY}/Revoke": Rule(access=Access.HOLDER_OR_SCOPE, scope=SCOPE_REVOKE),
    f"{_TRUST}/GetKeys": Rule(
        access=Access.SCOPE_WHERE_CONFIGURED, scope=SCOPE_VERIFY, pool=Pool.MEMORY, quiet=True
    ),
    f"{_TRUST}/Watch": Rule(
        access=Access.SCOPE_WHERE_CONFIGURED, scope=SCOPE_VERIFY, pool=Pool.MEMORY, streams=Streams.WATCH
    ),
    f"{_ADMIN}/CreateClient": _ADMINISTRATION,
    f"{_ADMIN}/GetClient": _ADMINISTRATION,
    f"{_ADMIN}/ListClients": _ADMINISTRATION,
    f"{_ADMIN}/UpdateClient": _ADMINISTRATION,
    f"{_ADMIN}/DeleteClient": _ADMINISTRATION,
    f"{_ADMIN}/RotateClientSecret": _ADMINISTRATION,
    f"{_ADMIN}/CreateUser": _ADMINISTRATION,
    f"{_ADMIN}/GetUser": _ADMINISTRATION,
    f"{_ADMIN}/ListUsers": _ADMINISTRATION,
    f"{_ADMIN}/UpdateUser": _ADMINISTRATION,
    f"{_ADMIN}/DeleteUser": _ADMINISTRATION,
    f"{_ADMIN}/SetPassword": _ADMINISTRATION,
    f"{_ADMIN}/ListSessions": _OWN_OR_ADMIN,
    f"{_ADMIN}/RevokeSessions": _OWN_OR_ADMIN,
    f"{_ADMIN}/CreateTrustedIssuer": _ADMINISTRATION,
    f"{_ADMIN}/GetTrustedIssuer": _ADMINISTRATION,
    f"{_ADMIN}/ListTrustedIssuers": _ADMINISTRATION,
    f"{_ADMIN}/UpdateTrustedIssuer": _ADMINISTRATION,
    f"{_ADMIN}/DeleteTrustedIssuer": _ADMINISTRATION,
    f"{_ADMIN}/ListKeys": _ADMINISTRATION,
    f"{_ADMIN}/RewrapKeys": _ADMINISTRATION,
    f"{_ADMIN}/RotateKeys": _ADMINISTRATION,
    f"{_ADMIN}/RetireKey": _ADMINISTRATION,
    f"{_ADMIN}/ListAuditEvents": _ADMINISTRATION,
    f"{_ADMIN}/TailAuditEvents": Rule(access=Access.SCOPE, scope=SCOPE_ADMIN, streams=Streams.AUDIT),
    "/grpc.health.v1.Health/Check": _OPEN_MEMORY,
    "/grpc.health.v1.Health/List": _OPEN_MEMORY,
    "/grpc.health.v1.Health/Watch": Rule(access=Access.OPEN, pool=Pool.MEMORY, streams=Streams.HEALTH),
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _REFLECTION,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _REFLECTION,
}
