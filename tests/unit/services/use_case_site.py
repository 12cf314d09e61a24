"""The use cases of one process as servicers call them, with events that disturb them. Asserts nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from identity_service.domain.audit import AuditEvent, AuditFilter
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.dpop import PresentedProof
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import KeyId, PrincipalId
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import Change, RecordKind, Revision
from identity_service.domain.origin import Origin, PeerCertificate
from identity_service.domain.secret import Secret
from identity_service.domain.sessions import Session
from identity_service.domain.tokens import AccessToken, Rejected
from identity_service.services.authenticate import ClientCredential, ClientSecret, Password
from identity_service.services.issue import IssueRequest
from identity_service.services.refresh import RefreshRequest
from identity_service.services.revoke import RevokeRequest, Target
from identity_service.services.token_maker import TokenSet
from identity_service.services.verify import VerifyRequest
from tests.dpop_proofs import TOKEN_URI, dpop_proof
from tests.jwts import PartyKey
from tests.service_site import PASSWORD, ServiceSite, open_service_site, start_process

CALLER = Origin(peer="192.0.2.7:4711", request_id="r-1", actor=PrincipalId("admin"), is_admin=True)
CERTIFICATE = PeerCertificate(sha256=b"x" * 32, names=frozenset({"dns:reports.example"}))
ANOTHER_CERTIFICATE = PeerCertificate(sha256=b"y" * 32, names=frozenset({"dns:portal.example"}))


@dataclass(kw_only=True)
class UseCaseSite(ServiceSite):
    """The use cases of one process, with short names for the calls that tests make often."""

    # Calls

    def secret_of(self, client_id: str) -> ClientSecret:
        return ClientSecret(client_id=PrincipalId(client_id), secret=Secret(self.secrets[client_id]))

    def password(self, client_id: str = "portal", **changes: Any) -> Password:
        """Sign the user `ana` in by password, through a client that authenticates if it has a secret."""
        secret = self.secrets.get(client_id)
        values: dict[str, Any] = {
            "username": "ana",
            "password": Secret(PASSWORD),
            "client_id": PrincipalId(client_id),
            "client_secret": Secret(secret) if secret else None,
        }
        return Password(**(values | changes))

    def proving(self, key: PartyKey | None) -> Origin:
        """Return the origin of a request with a DPoP proof of this key; None = without a proof."""
        if key is None:
            return CALLER
        jwt = Secret(dpop_proof(key, self.clock.now()))
        return replace(CALLER, proof=PresentedProof(jwt=jwt, method="POST", uris=(TOKEN_URI,)))

    def client_token(self, client_id: str = "reports", **request: Any) -> TokenSet:
        values: dict[str, Any] = {"credential": self.secret_of(client_id)}
        return self.use.issuer.issue(IssueRequest(**(values | request)))

    def sign_in(self, client_id: str = "portal", **request: Any) -> TokenSet:
        values: dict[str, Any] = {
            "credential": self.password(client_id),
            "grant": GrantRequest(audiences=("api",)),
        }
        return self.use.issuer.issue(IssueRequest(**(values | request)))

    def refresh(self, tokens: TokenSet, **request: Any) -> TokenSet:
        """Refresh as the client `portal`, which authenticates itself if it has a secret."""
        values: dict[str, Any] = {
            "refresh_token": Secret(tokens.refresh_token or ""),
            "client": self.secret_of("portal") if self.secrets["portal"] else None,
        }
        return self.use.refresher.refresh(RefreshRequest(**(values | request)))

    def revoke(self, target: Target, **request: Any) -> Revision:
        return self.use.revoker.revoke(RevokeRequest(target=target, **request))

    def signed_in(self, **app: Any) -> TokenSet:
        """Create a user and the client `portal`, and sign in; with `app` the client is public."""
        self.new_app(**app)
        self.new_user()
        return self.sign_in()

    def refusal(self, credential: ClientCredential) -> tuple[str, str]:
        """Return the reason and the client in the event of a refused credential; ("", id) if accepted."""
        try:
            return "", self.use.authenticator.client(credential).client.client_id
        except CredentialRefusedError as error:
            return error.why, error.principal

    # Facts

    def read(
        self, tokens: TokenSet, certificate: PeerCertificate | None = None, *, any_holder: bool = False
    ) -> AccessToken | Rejected:
        """Return the result of Verify for a call over a connection with this certificate."""
        request = VerifyRequest(
            token=tokens.access_token,
            any_audience=True,
            any_holder=any_holder,
            certificate_sha256=b"" if certificate is None else certificate.sha256,
        )
        found = self.use.verifier.verify(request)
        return found if isinstance(found, Rejected) else found.token

    def key_of(self, tokens: TokenSet) -> bytes | None:
        """Return the SHA-256 of the key that a valid access token is bound to; None = it is not bound."""
        found = self.read(tokens, any_holder=True)
        assert isinstance(found, AccessToken)
        return found.key_sha256

    def reason(self, tokens: TokenSet) -> str:
        """Return the reason for which the access token is rejected, or "" if it is valid."""
        found = self.read(tokens)
        return found.reason if isinstance(found, Rejected) else ""

    def session(self, tokens: TokenSet) -> Session:
        """Return the session of these tokens from the store."""
        assert tokens.session_id is not None
        state = self.store.sessions.read(tokens.session_id)
        assert state is not None
        return state.session

    def changes(self) -> list[Change]:
        """Return all changes in the log, the oldest first."""
        return [entry.change for entry in self.store.log.read_entries(0, 10_000)]

    def stored(self, event: str) -> list[dict[str, Any]]:
        """Return the stored audit events of this type, the oldest first, with their fields as in the log."""
        found, _ = self.store.audit.list_newest(AuditFilter(types=(event,)), limit=1000)
        return [_logged(stored.event) for stored in reversed(found)]

    def key_states(self, purpose: KeyPurpose = KeyPurpose.SIGN) -> dict[KeyId, str]:
        """Return the keys for a purpose with their states, the oldest first, as this process knows them."""
        return {key.key_id: key.state.value for key in self.use.keys.listed() if key.purpose is purpose}

    def key_ids(self, purpose: KeyPurpose = KeyPurpose.SIGN) -> list[KeyId]:
        return list(self.key_states(purpose))

    def key(self, key_id: KeyId) -> StoredKey:
        """Return a key from the store."""
        found = self.store.records.get(StoredKey, key_id)
        assert found is not None
        return found.record

    def key_event(self, key_id: KeyId, *, by_caller: bool = True) -> dict[str, Any]:
        """Return the fields of the audit event of a key's change, made by CALLER or by the process."""
        found = self.key(key_id)
        return {
            "outcome": "done",
            "target": key_id,
            "purpose": found.purpose.value,
            "algorithm": found.algorithm,
            "activate_time": found.activate_time.isoformat(),
        } | ({"actor": "admin", "peer": CALLER.peer} if by_caller else {})

    # Events

    def pass_time(self, **by: float) -> None:
        """Let time pass, and send a heartbeat, so that the process is fresh afterwards."""
        self.clock.advance(timedelta(**by))
        self.replica.heartbeat("tests")

    def delete_key(self, key_id: KeyId) -> None:
        """Delete a key from the store, as if the store had lost it."""
        self.store.records.delete(RecordKind.KEY, key_id)
        self.replica.catch_up()

    def other_process(self, **settings: Any) -> "UseCaseSite":
        """Return another process on the same store, with these changes of the settings."""
        changed = self.settings.model_copy(update=settings)
        other = UseCaseSite(**vars(start_process(changed, self.clock, self.store)))
        other.secrets = self.secrets
        return other


@contextmanager
def open_site(**settings: Any) -> Iterator[UseCaseSite]:
    with open_service_site(**settings) as service:
        yield UseCaseSite(**vars(service))


def over(certificate: PeerCertificate | None) -> Origin:
    """Return CALLER with a connection that presents this certificate."""
    return replace(CALLER, certificate=certificate)


def before(part: object, method: str, *actions: Callable[[], object]) -> None:
    """Run one action before each of the next calls of a method of `part`; an action may raise an error."""
    waiting, real = list(actions), getattr(part, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        if waiting:
            waiting.pop(0)()
        return real(*args, **kwargs)

    setattr(part, method, call)


def failing(error: Exception) -> Callable[[], object]:
    """Return an action that raises an error."""

    def fail() -> None:
        raise error

    return fail


unreachable = failing(StoreUnavailableError("the store is unreachable"))
"""An action that fails because the store cannot be reached."""


def _logged(event: AuditEvent) -> dict[str, Any]:
    fields = {"actor": event.actor, "target": event.target, "peer": event.peer, "reason": event.reason}
    given = {name: text for name, text in fields.items() if text}
    return {**event.details, "outcome": event.outcome.value, **given}
