"""The servicer of AdminService: each method converts, calls a use case, and converts the result."""

from dataclasses import dataclass

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import KeyId
from identity_service.domain.secret import Secret
from identity_service.grpc_api import admin_convert as convert
from identity_service.grpc_api.admin_answers import (
    from_client,
    from_session,
    from_trusted_issuer,
    from_user,
)
from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.paging import Page
from identity_service.grpc_api.trust_messages import from_key
from identity_service.services.admin.administration import Administration
from identity_service.services.admin.clients import CLIENT_FIELDS
from identity_service.services.admin.issuers import ISSUER_FIELDS
from identity_service.services.admin.sessions import OfClient, Sessions
from identity_service.services.admin.users import USER_FIELDS
from identity_service.services.keyring import KeyRing
from identity_service.services.rewrap import Rewrap
from identity_service.services.rotation import Rotation
from identityapi.v1 import admin_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class AdminServicer:
    """The servicer of AdminService, except for audit events (`AuditHandlers`)."""

    records: Administration
    sessions: Sessions
    keys: KeyRing
    rotation: Rotation
    rewrap: Rewrap

    # Clients

    def create_client(self, request: pb.CreateClientRequest, call: Call) -> pb.CreateClientResponse:
        """Create a client; the response holds its secret, unless the client has none."""
        made, secret = self.records.clients.create(
            convert.to_new_client(request.client), no_secret=request.no_secret, origin=call.origin
        )
        shown = secret.reveal() if secret is not None else ""
        return pb.CreateClientResponse(client=from_client(made), client_secret=shown)

    def get_client(self, request: pb.GetClientRequest, _call: Call) -> pb.GetClientResponse:
        """Return the client with this id."""
        found = self.records.clients.get(convert.to_id("client_id", request.client_id))
        return pb.GetClientResponse(client=from_client(found))

    def list_clients(self, request: pb.ListClientsRequest, _call: Call) -> pb.ListClientsResponse:
        """Return a page of the clients, ordered by id."""
        page = Page.asked("ListClients", request.page_size, request.page_token)
        found = self.records.clients.list(after=page.after, limit=page.limit + 1)
        shown, token = page.cut(found, lambda client: client.record.id)
        return pb.ListClientsResponse(clients=map(from_client, shown), next_page_token=token)

    def update_client(self, request: pb.UpdateClientRequest, call: Call) -> pb.UpdateClientResponse:
        """Change the fields of a client that `update_mask` names."""
        convert.to_id("client.client_id", request.client.client_id)
        changed = self.records.clients.update(
            convert.to_client(request.client),
            convert.to_fields(request.update_mask, CLIENT_FIELDS),
            expected=convert.to_etag("client.etag", request.client.etag),
            origin=call.origin,
        )
        return pb.UpdateClientResponse(client=from_client(changed))

    def delete_client(self, request: pb.DeleteClientRequest, call: Call) -> pb.DeleteClientResponse:
        """Delete a client; the response holds the revision that revokes its tokens."""
        revision = self.records.clients.delete(
            convert.to_id("client_id", request.client_id),
            expected=convert.to_etag("etag", request.etag),
            origin=call.origin,
        )
        return pb.DeleteClientResponse(revision=str(revision))

    def rotate_client_secret(
        self, request: pb.RotateClientSecretRequest, call: Call
    ) -> pb.RotateClientSecretResponse:
        """Give a client a new secret, which the response holds."""
        changed, secret = self.records.clients.rotate_secret(
            convert.to_id("client_id", request.client_id),
            overlap=convert.to_timedelta("overlap", request.overlap),
            revoke=request.revoke,
            expected=convert.to_etag("etag", request.etag),
            origin=call.origin,
        )
        return pb.RotateClientSecretResponse(client=from_client(changed), client_secret=secret.reveal())

    # Users

    def create_user(self, request: pb.CreateUserRequest, call: Call) -> pb.CreateUserResponse:
        """Create a user."""
        made = self.records.users.create(convert.to_new_user(request), origin=call.origin)
        return pb.CreateUserResponse(user=from_user(made))

    def get_user(self, request: pb.GetUserRequest, _call: Call) -> pb.GetUserResponse:
        """Return the user with this id or username."""
        match request.WhichOneof("name"):
            case "user_id":
                found = self.records.users.get(convert.to_id("user_id", request.user_id))
            case "username":
                found = self.records.users.find(convert.to_id("username", request.username))
            case _:
                raise InvalidRequestError.of("name", "must be set: one of user_id and username")
        return pb.GetUserResponse(user=from_user(found))

    def list_users(self, request: pb.ListUsersRequest, _call: Call) -> pb.ListUsersResponse:
        """Return a page of the users, ordered by id."""
        page = Page.asked("ListUsers", request.page_size, request.page_token)
        found = self.records.users.list(after=page.after, limit=page.limit + 1)
        shown, token = page.cut(found, lambda user: user.record.id)
        return pb.ListUsersResponse(users=map(from_user, shown), next_page_token=token)

    def update_user(self, request: pb.UpdateUserRequest, call: Call) -> pb.UpdateUserResponse:
        """Change the fields of a user that `update_mask` names."""
        convert.to_id("user.user_id", request.user.user_id)
        changed = self.records.users.update(
            convert.to_user(request.user),
            convert.to_fields(request.update_mask, USER_FIELDS),
            expected=convert.to_etag("user.etag", request.user.etag),
            origin=call.origin,
        )
        return pb.UpdateUserResponse(user=from_user(changed))

    def delete_user(self, request: pb.DeleteUserRequest, call: Call) -> pb.DeleteUserResponse:
        """Delete a user; the response holds the revision that revokes the user's tokens."""
        revision = self.records.users.delete(
            convert.to_id("user_id", request.user_id),
            expected=convert.to_etag("etag", request.etag),
            origin=call.origin,
        )
        return pb.DeleteUserResponse(revision=str(revision))

    def set_password(self, request: pb.SetPasswordRequest, call: Call) -> pb.SetPasswordResponse:
        """Set a user's password; revoke the user's sessions and tokens unless `revoke` is false."""
        changed = self.records.users.set_password(
            convert.to_id("user_id", request.user_id),
            Secret(request.password),
            revoke=request.revoke or not request.HasField("revoke"),
            origin=call.origin,
        )
        return pb.SetPasswordResponse(user=from_user(changed))

    # Sessions

    def list_sessions(self, request: pb.ListSessionsRequest, call: Call) -> pb.ListSessionsResponse:
        """Return a page of the live sessions of a subject or of a client, the newest sign-in first.

        The page token also covers the owner, so that a token of one list is refused for another.
        """
        owner, origin = convert.to_owner(request), call.origin
        named = owner.client_id if isinstance(owner, OfClient) else owner.subject or origin.actor
        of = f"ListSessions {request.WhichOneof('owner')} {named}"
        page = Page.asked(of, request.page_size, request.page_token)
        found, more = self.sessions.list(owner, origin, before=page.after, limit=page.limit)
        return pb.ListSessionsResponse(
            sessions=[from_session(session, origin) for session in found],
            next_page_token=page.token_after(found[-1].session_id) if more else "",
        )

    def revoke_sessions(self, request: pb.RevokeSessionsRequest, call: Call) -> pb.RevokeSessionsResponse:
        """End one session, or all sessions of a subject except one."""
        ended = self.sessions.revoke(convert.to_ending(request), call.origin, reason=request.reason)
        return pb.RevokeSessionsResponse(revision=str(ended.revision), count=ended.count)

    # Trusted issuers

    def create_trusted_issuer(
        self, request: pb.CreateTrustedIssuerRequest, call: Call
    ) -> pb.CreateTrustedIssuerResponse:
        """Add a trusted issuer."""
        made = self.records.issuers.create(
            convert.to_trusted_issuer(request.trusted_issuer), origin=call.origin
        )
        return pb.CreateTrustedIssuerResponse(trusted_issuer=from_trusted_issuer(made))

    def get_trusted_issuer(
        self, request: pb.GetTrustedIssuerRequest, _call: Call
    ) -> pb.GetTrustedIssuerResponse:
        """Return the trusted issuer with this `iss`."""
        found = self.records.issuers.get(convert.to_id("issuer", request.issuer))
        return pb.GetTrustedIssuerResponse(trusted_issuer=from_trusted_issuer(found))

    def list_trusted_issuers(
        self, request: pb.ListTrustedIssuersRequest, _call: Call
    ) -> pb.ListTrustedIssuersResponse:
        """Return a page of the trusted issuers, ordered by `iss`."""
        page = Page.asked("ListTrustedIssuers", request.page_size, request.page_token)
        found = self.records.issuers.list(after=page.after, limit=page.limit + 1)
        shown, token = page.cut(found, lambda issuer: issuer.record.id)
        return pb.ListTrustedIssuersResponse(
            trusted_issuers=map(from_trusted_issuer, shown), next_page_token=token
        )

    def update_trusted_issuer(
        self, request: pb.UpdateTrustedIssuerRequest, call: Call
    ) -> pb.UpdateTrustedIssuerResponse:
        """Change the fields of a trusted issuer that `update_mask` names."""
        convert.to_id("trusted_issuer.issuer", request.trusted_issuer.issuer)
        changed = self.records.issuers.update(
            convert.to_trusted_issuer(request.trusted_issuer),
            convert.to_fields(request.update_mask, ISSUER_FIELDS),
            expected=convert.to_etag("trusted_issuer.etag", request.trusted_issuer.etag),
            origin=call.origin,
        )
        return pb.UpdateTrustedIssuerResponse(trusted_issuer=from_trusted_issuer(changed))

    def delete_trusted_issuer(
        self, request: pb.DeleteTrustedIssuerRequest, call: Call
    ) -> pb.DeleteTrustedIssuerResponse:
        """Remove a trusted issuer."""
        revision = self.records.issuers.delete(
            convert.to_id("issuer", request.issuer),
            expected=convert.to_etag("etag", request.etag),
            origin=call.origin,
        )
        return pb.DeleteTrustedIssuerResponse(revision=str(revision))

    # Keys

    def list_keys(self, _request: pb.ListKeysRequest, _call: Call) -> pb.ListKeysResponse:
        """Return the keys of every purpose and their states, without secrets."""
        return pb.ListKeysResponse(keys=map(from_key, self.keys.listed()))

    def rotate_keys(self, request: pb.RotateKeysRequest, call: Call) -> pb.RotateKeysResponse:
        """Bring the next key of a purpose into use ahead of schedule."""
        key = self.rotation.rotate(convert.to_purpose(request.purpose), request.algorithm, origin=call.origin)
        return pb.RotateKeysResponse(key=from_key(key))

    def retire_key(self, request: pb.RetireKeyRequest, call: Call) -> pb.RetireKeyResponse:
        """Revoke a key and everything that was made with it; the response holds its successor."""
        retired = self.rotation.retire(
            KeyId(convert.to_id("key_id", request.key_id)),
            convert.to_reason(request.reason),
            origin=call.origin,
        )
        return pb.RetireKeyResponse(revision=str(retired.revision), key=from_key(retired.successor))

    def rewrap_keys(self, _request: pb.RewrapKeysRequest, call: Call) -> pb.RewrapKeysResponse:
        """Encrypt every key in the store under the current master key."""
        done = self.rewrap.rewrap(origin=call.origin)
        return pb.RewrapKeysResponse(rewrapped=done.rewrapped, total=done.total)
