"""The OAuth endpoints with their real use cases, on a store in memory and a clock that stands still.

Knows how to make the principals that tests need, and how to write requests. Asserts nothing.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from identity_service.bootstrap import StoreAdmin
from identity_service.composition.http import oauth_endpoints
from identity_service.composition.opening import key_policy, open_vault, replica_config
from identity_service.composition.wiring import Parts, UseCases, store_administration
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.origin import Origin
from identity_service.domain.principals import Client, Grant
from identity_service.domain.secret import Secret
from identity_service.http_api import paths
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.oauth import token
from identity_service.http_api.oauth.endpoints import OAuthEndpoints
from identity_service.jose.jwks import open_public_key
from identity_service.replication.follower import Follower
from identity_service.replication.replica import Replica
from identity_service.services.admin.administration import NewUser
from identity_service.services.revoke import ByPrincipal, RevokeRequest
from identity_service.settings import Settings
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.issuer_keys import FakeIssuerKeys
from tests.jwts import PartyKey, assertion_claims

ISSUER: Final = "https://id.example"
TOKEN_URL: Final = f"{ISSUER}/oauth2/token"
OTHER_ISSUER: Final = "https://issuer.example"
PASSWORD: Final = "correct horse battery staple"
PEER: Final = Origin(peer="192.0.2.7:4711", request_id="r-1")
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY: Final = PartyKey.make()
"""The key of clients that sign assertions, and of the trusted issuer."""

Params = Sequence[tuple[str, str]] | Mapping[str, str]


class PlainHasher:
    """Implements the port `PasswordHasher` without hashing."""

    def hash(self, password: Secret) -> str:
        return f"plain {password.reveal()}"

    def verify(self, phc: str | None, password: Secret) -> bool:
        return phc == f"plain {password.reveal()}"

    def is_outdated(self, phc: str) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response, its JSON parsed."""

    status: int
    headers: dict[str, list[str]]
    json: dict[str, Any]

    @property
    def error(self) -> str:
        """The error code, or empty."""
        return str(self.json.get("error", ""))

    @classmethod
    def of(cls, response: HttpResponse) -> "Answer":
        headers: dict[str, list[str]] = {}
        for name, value in response.headers:
            headers.setdefault(name, []).append(value)
        content = json.loads(response.body) if response.body else {}
        return cls(status=response.status, headers=headers, json=content)


@dataclass(kw_only=True)
class Site:
    """The endpoints, and everything behind them."""

    clock: FakeClock
    store: SqliteStore
    replica: Replica
    use: UseCases
    endpoints: OAuthEndpoints
    event_log: RecordingEventLog
    secrets: dict[str, str] = field(default_factory=dict)
    """The secrets of clients by their ids."""

    # Principals

    def new_client(self, client_id: str = "reports", *, public: bool = False, **changes: Any) -> str:
        """Make a client, with a secret unless it is public or has a key; return the id."""
        values: dict[str, Any] = {"audiences": {"api"}, "scopes": {"read", "write"}} | changes
        sets = {name: frozenset(value) for name, value in values.items() if isinstance(value, set)}
        client = Client(client_id=PrincipalId(client_id), **(values | sets))
        no_secret = public or bool(client.public_keys)
        _, secret = self.use.administration.clients.create(client, no_secret=no_secret)
        self.secrets[client_id] = secret.reveal() if secret is not None else ""
        self.replica.catch_up()
        return client_id

    def new_app(self, client_id: str = "portal", **changes: Any) -> str:
        """Make a client through which users sign in."""
        return self.new_client(client_id, grants={Grant.PASSWORD, Grant.REFRESH_TOKEN}, **changes)

    def new_user(self, username: str = "ana") -> str:
        made = self.use.administration.users.create(
            NewUser(
                username=username, password=Secret(PASSWORD), audiences=("api",), scopes=("read", "write")
            )
        )
        self.replica.catch_up()
        return made.record.user_id

    def trust_issuer(self, client_id: str = "reports") -> None:
        """Trust another issuer, whose tokens authenticate a client."""
        rule = TrustRule(claims={"sub": "*"}, client_id=PrincipalId(client_id))
        jwks = json.dumps({"keys": [KEY.public()]})
        self.store.records.create(TrustedIssuer(issuer=OTHER_ISSUER, jwks=jwks, rules=(rule,)))
        self.replica.catch_up()

    def update_client(self, client_id: str, **changes: Any) -> None:
        """Change fields of a client."""
        wanted = Client(client_id=PrincipalId(client_id), **changes)
        self.use.administration.clients.update(wanted, list(changes))
        self.replica.catch_up()

    def revoke_all_of(self, client_id: str) -> None:
        """Revoke everything that was issued to a client or through it."""
        target = ByPrincipal(principal=PrincipalId(client_id))
        self.use.revoker.revoke(RevokeRequest(target=target))

    # Requests

    def post(
        self,
        path: str,
        params: Params | bytes,
        *,
        origin: Origin = PEER,
        **headers: str | tuple[str, ...],
    ) -> Answer:
        """Send a form; `authorization` and other headers in lower case with underscores."""
        body = params if isinstance(params, bytes) else urlencode(params).encode()
        sent = {"content_type": "application/x-www-form-urlencoded"} | headers
        request = HttpRequest(
            method="POST",
            path=path,
            query=b"",
            headers={
                name.replace("_", "-"): (value,) if isinstance(value, str) else value
                for name, value in sent.items()
            },
            body=body,
            origin=origin,
        )
        return self.send(request)

    def send(self, request: HttpRequest) -> Answer:
        endpoint = {
            paths.TOKEN: self.endpoints.token,
            paths.INTROSPECT: self.endpoints.introspect,
            paths.REVOKE: self.endpoints.revoke,
        }[request.path]
        return Answer.of(endpoint(request))

    def token(self, params: Params | bytes, **headers: Any) -> Answer:
        return self.post(paths.TOKEN, params, **headers)

    def basic(self, client_id: str) -> str:
        """The header Authorization of a client with its secret."""
        return basic(client_id, self.secrets[client_id])

    def client_token(self, client_id: str = "reports", **params: str) -> Answer:
        """A token by the grant client_credentials."""
        return self.token({"grant_type": "client_credentials", **params}, authorization=self.basic(client_id))

    def sign_in(self, client_id: str = "portal", **params: str) -> Answer:
        """Tokens by the grant password, through a confidential client or a public one."""
        wanted = {"grant_type": "password", "username": "ana", "password": PASSWORD, **params}
        if self.secrets[client_id]:
            return self.token(wanted, authorization=self.basic(client_id))
        return self.token({"client_id": client_id, **wanted})

    def refresh(self, refresh_token: str, client_id: str = "portal", **params: str) -> Answer:
        wanted = {"grant_type": "refresh_token", "refresh_token": refresh_token, **params}
        if self.secrets[client_id]:
            return self.token(wanted, authorization=self.basic(client_id))
        return self.token({"client_id": client_id, **wanted})

    def exchange(self, text: str, client_id: str, **params: str) -> Answer:
        wanted = {
            "grant_type": token.TOKEN_EXCHANGE,
            "subject_token": text,
            "subject_token_type": token.ACCESS_TOKEN_TYPE,
            **params,
        }
        return self.token(wanted, authorization=self.basic(client_id))

    def introspect(self, text: str, client_id: str = "gateway", **params: str) -> Answer:
        return self.post(paths.INTROSPECT, {"token": text, **params}, authorization=self.basic(client_id))

    def revoke(self, text: str, client_id: str, **params: str) -> Answer:
        wanted = {"token": text, **params}
        if self.secrets.get(client_id):
            return self.post(paths.REVOKE, wanted, authorization=self.basic(client_id))
        return self.post(paths.REVOKE, {"client_id": client_id, **wanted})

    def is_active(self, text: str) -> bool:
        """Return whether a token is valid, by the answer that the client `gateway` gets."""
        return bool(self.introspect(text, token_type_hint="refresh_token").json["active"])

    def assertion(self, client_id: str, **changes: object) -> str:
        """An assertion of a client, for the token endpoint unless `aud` says otherwise."""
        return KEY.jwt(assertion_claims(client_id, self.clock.now(), **({"aud": TOKEN_URL} | changes)))

    def audited(self, event: str) -> list[dict[str, Any]]:
        """The audit events of this name."""
        return self.event_log.named(event)


def basic(client_id: str, secret: str, *, encode: bool = True) -> str:
    """The header Authorization of a client, form-encoded as RFC 6749 demands, or raw."""
    parts = (quote_plus(client_id), quote_plus(secret)) if encode else (client_id, secret)
    return "Basic " + base64.b64encode(":".join(parts).encode()).decode()


@contextmanager
def running(**changes: Any) -> Iterator[Site]:
    """The endpoints on an initialised store, with a client `gateway` that may verify tokens."""
    clock, event_log = FakeClock(), RecordingEventLog()
    settings = Settings(issuer=ISSUER, master_key="a master key for tests, 32 characters or more", **changes)
    store = SqliteStore.open(":memory:", clock=clock)
    administrator = store_administration(store.records, PlainHasher(), clock, settings.issuer_names)
    StoreAdmin(settings=settings, store=store, administrator=administrator, clock=clock).initialise()
    replica = Replica(store.log, clock, event_log, replica_config(settings))
    use = UseCases(
        Parts(
            settings=settings,
            clock=clock,
            store=store,
            replica=replica,
            vault=open_vault(settings),
            hasher=PlainHasher(),
            event_log=event_log,
            key_policy=key_policy(settings),
            issuer_keys=FakeIssuerKeys(open_public_key(KEY.public_jwk)),
        )
    )
    interval = timedelta(seconds=1)
    Follower(store.log, replica, event_log, process="tests", heartbeat_interval=interval).load()
    endpoints = oauth_endpoints(settings, use, replica)
    site = Site(clock=clock, store=store, replica=replica, use=use, endpoints=endpoints, event_log=event_log)
    site.new_client("gateway", scopes={"identity.verify"}, audiences={settings.service_audience})
    yield site
    store.close()
