"""All methods of the server, in one table: the condition for callers, the threads, and the function of each.

A method of the protos without an entry is refused.
"""

from collections.abc import Mapping
from typing import Final

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from identity_service.domain.grants import SCOPE_ADMIN, SCOPE_REVOKE, SCOPE_VERIFY
from identity_service.grpc_api.admin import AdminServicer
from identity_service.grpc_api.audit import AuditHandlers
from identity_service.grpc_api.batches import BatchServicer, check_serialized_batch
from identity_service.grpc_api.ext_authz.servicer import ExtAuthzServicer
from identity_service.grpc_api.ext_authz.wire import auth_pb2
from identity_service.grpc_api.health import SERVICE_NAME as HEALTH
from identity_service.grpc_api.health import HealthServicer
from identity_service.grpc_api.issue import IssueServicer
from identity_service.grpc_api.method_spec import (
    Access,
    Cached,
    Conversation,
    MethodSpec,
    Pool,
    Rule,
    Stream,
    Unary,
)
from identity_service.grpc_api.reflection import SERVICE_NAMES as REFLECTION
from identity_service.grpc_api.reflection import ReflectionServicer
from identity_service.grpc_api.revoke import RevokeServicer
from identity_service.grpc_api.trust import TrustServicer
from identity_service.grpc_api.verify import VerifyServicer
from identity_service.transport.limits import Streams
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import identity_service_pb2 as identity_pb
from identityapi.v1 import trust_service_pb2 as trust_pb

_PROTOS: Final = (identity_pb.DESCRIPTOR, trust_pb.DESCRIPTOR, admin_pb.DESCRIPTOR, auth_pb2.DESCRIPTOR)
_DESCRIPTORS: Final = [service for proto in _PROTOS for service in proto.services_by_name.values()]
SERVICES: Final = tuple(service.full_name for service in _DESCRIPTORS)
"""The full names of the services of the protos, and of Envoy's ext_authz."""
METHODS: Final = frozenset(
    f"/{service.full_name}/{method.name}" for service in _DESCRIPTORS for method in service.methods
)
"""The full names of the methods of the protos."""

_ANY_TOKEN: Final = 1024 * 1024
"""The longest request about a token, which may be any text: its answer says that it is too long."""
_RECORD: Final = 1024 * 1024
"""The longest request with a client or a trusted issuer, which may have many keys or rules."""
_HTTP_REQUEST: Final = 256 * 1024
"""The longest request that describes an HTTP request: Envoy accepts 60 KiB of headers, and sends no body
unless it is configured to."""
_HEALTH_NAME: Final = 1024
"""The longest request with the name of a service. An open stream keeps the name, also an unknown one."""

_OPEN: Final = Rule(access=Access.OPEN)
_OPEN_MEMORY: Final = Rule(access=Access.OPEN, pool=Pool.MEMORY, quiet=True)
_HEALTH_WATCH: Final = Rule(access=Access.OPEN, pool=Pool.MEMORY, streams=Streams.HEALTH)
_REFLECTION: Final = Rule(access=Access.OPEN, streams=Streams.REFLECTION)
_VERIFY: Final = Rule(access=Access.SCOPE_WHERE_CONFIGURED, scope=SCOPE_VERIFY, pool=Pool.MEMORY, quiet=True)
_WATCH: Final = Rule(
    access=Access.SCOPE_WHERE_CONFIGURED, scope=SCOPE_VERIFY, pool=Pool.MEMORY, streams=Streams.WATCH
)
_REVOKE: Final = Rule(access=Access.HOLDER_OR_SCOPE, scope=SCOPE_REVOKE)
_ADMIN: Final = Rule(access=Access.SCOPE, scope=SCOPE_ADMIN)
_OWN_OR_ADMIN: Final = Rule(access=Access.OWN_OR_SCOPE, scope=SCOPE_ADMIN)
_AUDIT_TAIL: Final = Rule(access=Access.SCOPE, scope=SCOPE_ADMIN, streams=Streams.AUDIT)


def method_table(
    issue: IssueServicer,
    verify: VerifyServicer,
    revoke: RevokeServicer,
    trust: TrustServicer,
    admin: AdminServicer,
    audit: AuditHandlers,
    ext_authz: ExtAuthzServicer,
    health: HealthServicer,
    reflection: ReflectionServicer | None,
) -> Mapping[str, MethodSpec]:
    """Return the entry of each method, by its full name, such as `/grpc.health.v1.Health/Check`."""
    services: dict[str, Mapping[str, MethodSpec]] = {
        "identityapi.v1.IdentityService": _identity(issue, verify, BatchServicer(verify), revoke),
        "identityapi.v1.TrustService": {
            "GetKeys": Unary(_VERIFY, trust_pb.GetKeysRequest, trust.get_keys),
            "Watch": Stream(_WATCH, trust_pb.WatchRequest, trust.watch),
        },
        "identityapi.v1.AdminService": _admin(admin, audit),
        "envoy.service.auth.v3.Authorization": {
            "Check": Cached(
                _VERIFY,
                auth_pb2.CheckRequest,
                None,  # no two requests are equal: each has the time, and the port of the client
                ext_authz.check,
                serve_now=ext_authz.check_now,
                max_bytes=_HTTP_REQUEST,
            )
        },
        HEALTH: {
            "Check": Unary(_OPEN_MEMORY, health_pb2.HealthCheckRequest, health.check, max_bytes=_HEALTH_NAME),
            "List": Unary(_OPEN_MEMORY, health_pb2.HealthListRequest, health.list),
            "Watch": Stream(
                _HEALTH_WATCH, health_pb2.HealthCheckRequest, health.watch, max_bytes=_HEALTH_NAME
            ),
        },
    }
    if reflection is not None:
        answer = Conversation(_REFLECTION, reflection_pb2.ServerReflectionRequest, reflection.answer)
        services |= {name: {"ServerReflectionInfo": answer} for name in REFLECTION}
    return {f"/{service}/{name}": spec for service, specs in services.items() for name, spec in specs.items()}


def _identity(
    issue: IssueServicer, verify: VerifyServicer, batches: BatchServicer, revoke: RevokeServicer
) -> Mapping[str, MethodSpec]:
    return {
        "Issue": Unary(_OPEN, identity_pb.IssueRequest, issue.issue, repeat=issue.repeat_issue),
        "Verify": Cached(
            _VERIFY,
            identity_pb.VerifyRequest,
            verify.recall_verify,
            verify.verify,
            serve_now=verify.verify_now,
            max_bytes=_ANY_TOKEN,
        ),
        "VerifyBatch": Cached(
            _VERIFY,
            identity_pb.VerifyBatchRequest,
            batches.recall,
            batches.verify,
            max_bytes=None,
            check=check_serialized_batch,
        ),
        "Refresh": Unary(_OPEN, identity_pb.RefreshRequest, issue.refresh),
        "Revoke": Unary(_REVOKE, identity_pb.RevokeRequest, revoke.revoke, max_bytes=_ANY_TOKEN),
    }


def _admin(admin: AdminServicer, audit: AuditHandlers) -> Mapping[str, MethodSpec]:
    return {
        "CreateClient": Unary(_ADMIN, admin_pb.CreateClientRequest, admin.create_client, max_bytes=_RECORD),
        "GetClient": Unary(_ADMIN, admin_pb.GetClientRequest, admin.get_client),
        "ListClients": Unary(_ADMIN, admin_pb.ListClientsRequest, admin.list_clients),
        "UpdateClient": Unary(_ADMIN, admin_pb.UpdateClientRequest, admin.update_client, max_bytes=_RECORD),
        "DeleteClient": Unary(_ADMIN, admin_pb.DeleteClientRequest, admin.delete_client),
        "RotateClientSecret": Unary(_ADMIN, admin_pb.RotateClientSecretRequest, admin.rotate_client_secret),
        "CreateUser": Unary(_ADMIN, admin_pb.CreateUserRequest, admin.create_user),
        "GetUser": Unary(_ADMIN, admin_pb.GetUserRequest, admin.get_user),
        "ListUsers": Unary(_ADMIN, admin_pb.ListUsersRequest, admin.list_users),
        "UpdateUser": Unary(_ADMIN, admin_pb.UpdateUserRequest, admin.update_user),
        "DeleteUser": Unary(_ADMIN, admin_pb.DeleteUserRequest, admin.delete_user),
        "SetPassword": Unary(_ADMIN, admin_pb.SetPasswordRequest, admin.set_password),
        "ListSessions": Unary(_OWN_OR_ADMIN, admin_pb.ListSessionsRequest, admin.list_sessions),
        "RevokeSessions": Unary(_OWN_OR_ADMIN, admin_pb.RevokeSessionsRequest, admin.revoke_sessions),
        "CreateTrustedIssuer": Unary(
            _ADMIN, admin_pb.CreateTrustedIssuerRequest, admin.create_trusted_issuer, max_bytes=_RECORD
        ),
        "GetTrustedIssuer": Unary(_ADMIN, admin_pb.GetTrustedIssuerRequest, admin.get_trusted_issuer),
        "ListTrustedIssuers": Unary(_ADMIN, admin_pb.ListTrustedIssuersRequest, admin.list_trusted_issuers),
        "UpdateTrustedIssuer": Unary(
            _ADMIN, admin_pb.UpdateTrustedIssuerRequest, admin.update_trusted_issuer, max_bytes=_RECORD
        ),
        "DeleteTrustedIssuer": Unary(
            _ADMIN, admin_pb.DeleteTrustedIssuerRequest, admin.delete_trusted_issuer
        ),
        "ListKeys": Unary(_ADMIN, admin_pb.ListKeysRequest, admin.list_keys),
        "RotateKeys": Unary(_ADMIN, admin_pb.RotateKeysRequest, admin.rotate_keys),
        "RetireKey": Unary(_ADMIN, admin_pb.RetireKeyRequest, admin.retire_key),
        "RewrapKeys": Unary(_ADMIN, admin_pb.RewrapKeysRequest, admin.rewrap_keys),
        "ListAuditEvents": Unary(_ADMIN, admin_pb.ListAuditEventsRequest, audit.list_events),
        "TailAuditEvents": Stream(_AUDIT_TAIL, admin_pb.TailAuditEventsRequest, audit.tail),
    }
