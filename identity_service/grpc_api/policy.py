"""Who may call what: one table. A method without an entry is refused, whatever it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from identity_service.domain.grants import SCOPE_REVOKE, SCOPE_VERIFY

_IDENTITY: Final = "/identityapi.v1.IdentityService"
_TRUST: Final = "/identityapi.v1.TrustService"


class Access(Enum):
    """What a method asks of its caller."""

    OPEN = auto()
    """Nothing: the request carries its own proof, or there is nothing to protect."""
    SCOPE_WHERE_CONFIGURED = auto()
    """The scope, once `require_caller_auth` is on."""
    HOLDER_OR_SCOPE = auto()
    """Nothing of who shows the very token that the call is about; of all others the scope."""


class Pool(Enum):
    """Which threads run a method."""

    MEMORY = auto()
    """Those that answer from memory, and do nothing else."""
    WORK = auto()
    """Those that may wait for the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table."""

    access: Access
    scope: str = ""
    pool: Pool = Pool.WORK
    quiet: bool = False
    """Calls that succeed are logged at level debug only."""


_OPEN_MEMORY: Final = Rule(access=Access.OPEN, pool=Pool.MEMORY, quiet=True)

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
    f"{_TRUST}/Watch": Rule(access=Access.SCOPE_WHERE_CONFIGURED, scope=SCOPE_VERIFY, pool=Pool.MEMORY),
    "/grpc.health.v1.Health/Check": _OPEN_MEMORY,
    "/grpc.health.v1.Health/List": _OPEN_MEMORY,
    "/grpc.health.v1.Health/Watch": _OPEN_MEMORY,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Rule(access=Access.OPEN, quiet=True),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(access=Access.OPEN, quiet=True),
}
