"""The access policy of a service: the token that the callers of each method must present.

policy = Policy("reports", {
    "/reports.v1.Reports/*": ["reports.read"],
    "/reports.v1.Reports/Delete": ["reports.admin"],
    "/reports.v1.Reports/GetOpeningHours": public(),
}, services=[reports_pb2.DESCRIPTOR])

A method without an entry is refused. The module knows no transport and verifies no token.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor

from identityapi.v1 import access_pb2

_PATTERN: Final = re.compile(r"/(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*/(?:[A-Za-z_]\w*|\*)", re.ASCII)
_AUDIENCE: Final = re.compile(r"[\x21-\x7e]{1,256}")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")
"""RFC 6749 section 3.3."""
_MAX_SCOPES: Final = 100
_OPTION: Final[Any] = access_pb2.access  # its type in the stubs is not the one that extensions take
_HEALTH: Final = "/grpc.health.v1.Health/*"
_REFLECTION: Final = (
    "/grpc.reflection.v1.ServerReflection/*",
    "/grpc.reflection.v1alpha.ServerReflection/*",
)


class PolicyError(ValueError):
    """A policy is not acceptable; the message names each entry or method, and the rule."""


class WhenStale(Enum):
    """The ways to treat calls while the verifier has no recent confirmation of the service."""

    REFUSE = "refuse"
    """Refuse them as UNAVAILABLE."""
    ASK = "ask"
    """Ask the service by the Verify RPC; if that fails, refuse them as UNAVAILABLE."""


REFUSE: Final = WhenStale.REFUSE
ASK: Final = WhenStale.ASK


@dataclass(frozen=True, slots=True)
class AllowFor:
    """Accept tokens for this time after the verifier became stale, except those known to be revoked."""

    duration: timedelta

    def __post_init__(self) -> None:
        if self.duration <= timedelta(0):
            raise PolicyError("the duration of ALLOW_FOR must be positive; use REFUSE instead")


ALLOW_FOR: Final = AllowFor
OnStale = WhenStale | AllowFor


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """The token that the callers of a method must present."""

    audiences: tuple[str, ...] = ()
    """The token must be for one of these; empty = the audience of the policy."""
    scopes: tuple[str, ...] = ()
    """The token must have all of these."""
    public: bool = False
    """True if the method needs no token."""
    on_stale: OnStale | None = None
    """The treatment of calls while the verifier is stale; None = that of the policy."""


Access = Collection[str] | Requirement
"""The scopes that a method needs, or `public()`, or `requires(...)`."""


def public() -> Requirement:
    """Return the entry of a method that may be called without a token."""
    return Requirement(public=True)


def requires(
    scopes: Collection[str], *, audience: str | None = None, on_stale: OnStale | None = None
) -> Requirement:
    """Return the entry of a method that needs a token.

    Args:
        scopes: the scopes that the token must all have; empty = every valid token for the audience is enough.
        audience: the audience that the token must be for; None = that of the policy.
        on_stale: `REFUSE`, `ASK` or `ALLOW_FOR(duration)`; None = that of the policy.
    """
    audiences = () if audience is None else (audience,)
    return Requirement(audiences=audiences, scopes=_listed(scopes), on_stale=on_stale)


def complete(access: Access, audience: str, on_stale: OnStale) -> Requirement:
    """Return an entry with the audience and `on_stale` of its policy. Raises PolicyError."""
    entry = access if isinstance(access, Requirement) else Requirement(scopes=_listed(access))
    if entry.public:
        if entry.audiences or entry.scopes:
            raise PolicyError("a public method needs no token, so it has neither an audience nor scopes")
        return entry
    entry = Requirement(
        audiences=entry.audiences or (audience,),
        scopes=entry.scopes,
        on_stale=on_stale if entry.on_stale is None else entry.on_stale,
    )
    if not all(_AUDIENCE.fullmatch(each) for each in entry.audiences):
        raise PolicyError("an audience must have 1 to 256 visible ASCII characters")
    if len(entry.scopes) > _MAX_SCOPES or not all(_SCOPE.fullmatch(each) for each in entry.scopes):
        raise PolicyError(
            f"scopes must be at most {_MAX_SCOPES}, each as in RFC 6749 section 3.3 up to 128 characters"
        )
    return entry


class Policy:
    """The access policy of a gRPC server. It does not change after it was made."""

    def __init__(
        self,
        audience: str,
        methods: Mapping[str, Access],
        *,
        services: Collection[FileDescriptor | ServiceDescriptor] = (),
        on_stale: OnStale = REFUSE,
        reflection: bool = False,
    ) -> None:
        """Create a policy. The methods of `grpc.health.v1.Health` are public unless an entry names them.

        Args:
            audience: the audience of this server, which tokens must be for (`aud`).
            methods: the entry of each method: its scopes as a list, `public()` or `requires(...)`. A key is a
                method, `/package.Service/Method`, or all methods of a service, `/package.Service/*`. The
                entry of a method replaces the one of its service.
            services: the descriptors of the server's own services, such as `reports_pb2.DESCRIPTOR`. Each of
                their methods must have an entry then, and each entry must match a method.
            on_stale: the treatment of calls while the verifier is stale, for entries that do not name it.
            reflection: whether the methods of server reflection are public.

        Raises PolicyError.
        """
        self._entries: dict[str, Requirement] = {}
        for pattern, access in methods.items():
            if not _PATTERN.fullmatch(pattern):
                raise PolicyError(
                    f"{pattern!r} is not a method: write /package.Service/Method, or "
                    "/package.Service/* for all"
                )
            try:
                self._entries[pattern] = complete(access, audience, on_stale)
            except PolicyError as error:
                raise PolicyError(f"{pattern}: {error}") from None
        self._check_against([name for name, _ in _described(services)], given=bool(services))
        for pattern in (_HEALTH, *(_REFLECTION if reflection else ())):
            self._entries.setdefault(pattern, public())

    @classmethod
    def from_proto(
        cls,
        *services: FileDescriptor | ServiceDescriptor,
        audience: str | None = None,
        on_stale: OnStale = REFUSE,
        reflection: bool = False,
    ) -> "Policy":
        """Return the policy that the methods declare by the option `(identityapi.v1.access)` in their proto.

        Args:
            services: the descriptors, such as `reports_pb2.DESCRIPTOR`.
            audience: the audience of methods whose option names none.
            on_stale: the treatment of calls while the verifier is stale.
            reflection: whether the methods of server reflection are public.

        Raises PolicyError if a method lacks the option, or has no audience and there is no default.
        """
        entries: dict[str, Access] = {}
        without: list[str] = []
        for name, method in _described(services):
            options = method.GetOptions()
            access = options.Extensions[_OPTION] if options.HasExtension(_OPTION) else None
            if access is None or not (access.public or access.audience or audience):
                without.append(name)
                continue
            audiences = (access.audience,) if access.audience else ()
            entries[name] = Requirement(
                audiences=audiences, scopes=tuple(access.scopes), public=access.public
            )
        if without:
            raise PolicyError(
                f"no option (identityapi.v1.access) with an audience, or public, for {', '.join(without)}"
            )
        return cls(audience or "", entries, services=services, on_stale=on_stale, reflection=reflection)

    @property
    def asks(self) -> bool:
        """Return whether a method is to be decided by the service while the verifier is stale (`ASK`)."""
        return any(entry.on_stale is ASK for entry in self._entries.values())

    def requirement(self, method: str) -> Requirement | None:
        """Return the entry of a method, such as `/reports.v1.Reports/Get`; None if it has none."""
        entry = self._entries.get(method)
        if entry is None:
            entry = self._entries.get(f"{method.rpartition('/')[0]}/*")
        return entry

    def _check_against(self, methods: Collection[str], *, given: bool) -> None:
        """Raise PolicyError if the entries and the methods of the given services do not belong together."""
        if not given:
            return
        if not methods:
            raise PolicyError("the given descriptors hold no method; give those of the protos with services")
        without = [name for name in methods if self.requirement(name) is None]
        if without:
            raise PolicyError(f"no entry for {', '.join(without)}; every call of it would be refused")
        used = {*methods, *(f"{name.rpartition('/')[0]}/*" for name in methods)}
        unused = [pattern for pattern in self._entries if pattern not in used and not _is_built_in(pattern)]
        if unused:
            raise PolicyError(f"no method of the given services matches {', '.join(unused)}")


def _listed(scopes: Collection[str]) -> tuple[str, ...]:
    if isinstance(scopes, str):
        raise PolicyError(f"scopes must be a list of texts, not one text: write [{scopes!r}]")
    return tuple(scopes)


def _is_built_in(pattern: str) -> bool:
    return f"{pattern.rpartition('/')[0]}/*" in (_HEALTH, *_REFLECTION)


def _described(
    services: Collection[FileDescriptor | ServiceDescriptor],
) -> Iterator[tuple[str, MethodDescriptor]]:
    for each in services:
        found = [each] if isinstance(each, ServiceDescriptor) else each.services_by_name.values()
        for service in found:
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method
