"""Clients that authenticate themselves by a certificate over HTTP with real TLS, on both engines."""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from identity_service.domain.principals import Grant
from identity_service.jose.keys import thumbprint
from identity_service.storage.sqlite import SqliteStore
from tests.dpop_proofs import dpop_proof
from tests.http.conftest import ANY_PORT
from tests.http.site import Answer, Site
from tests.jwts import PartyKey
from tests.patience import PATIENCE, until
from tests.ports import reserve_address
from tests.rpc.conftest import ENVOY, GRPCIO, running, running_in_envoy, settings_for_tests
from tests.rpc.engines import EnvoyHost
from tests.rpc.envoy_inside import StoreAddress
from tests.rpc.world import PASSWORD, World
from tests.tls import Certifier, Holder, replace

SPIFFE = "spiffe://example.org/reports"
CREDENTIALS = {"grant_type": "client_credentials"}
SIGN_IN = {"grant_type": "password", "username": "ana", "password": PASSWORD}
REFUSED = (OSError, ConnectionError)


@dataclass(frozen=True)
class Listeners:
    """A service with two HTTP listeners: one with and one without client certificates."""

    world: World
    certifier: Certifier
    plain: Site
    """The service at the listener that does not ask for a client certificate."""
    mutual: str
    """The address (host:port) of the listener that requires a client certificate."""

    def shown(self, holder: Holder | None) -> Site:
        """Return the service at the listener that requires a certificate.

        The client presents the certificate of `holder`, or none if `holder` is None.
        """
        context = ssl.create_default_context(cafile=self.certifier.file)
        if holder is not None:
            context.load_cert_chain(holder.certificate_file, holder.key_file)
        return Site(self.world, self.mutual, context)

    def client(self, client_id: str, *names: str, **changes: object) -> Holder:
        """Create a client that these certificate names authenticate; return a certificate with the names."""
        certificates = tuple(name if "://" in name else f"dns:{name}" for name in names)
        self.world.new_client(client_id, public=True, certificates=certificates, **changes)
        return self.certifier.client(client_id, *names)


def listening(engine: str, certifier: Certifier) -> dict[str, Any]:
    return certifier.server().settings(
        engine=engine,
        issuer="https://id.example",
        tls_client_ca=certifier.file,
        mtls_listen=ANY_PORT if engine == ENVOY else reserve_address(),
        http_listen=ANY_PORT,
        http_mtls_listen=ANY_PORT if engine == ENVOY else reserve_address(),
        http_mtls_url="https://mtls.id.example",
    )


@pytest.fixture(scope="module")
def certifier(tmp_path_factory: pytest.TempPathFactory) -> Certifier:
    return Certifier(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def envoy(certifier: Certifier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyHost]:
    settings = settings_for_tests(**listening(ENVOY, certifier))
    with closing(EnvoyHost(settings, tmp_path_factory.mktemp("envoy"))) as host:
        yield host


@pytest.fixture(params=(GRPCIO, ENVOY))
def listeners(request: pytest.FixtureRequest, certifier: Certifier, tmp_path: Path) -> Iterator[Listeners]:
    settings = settings_for_tests(**listening(request.param, certifier))
    trusting = ssl.create_default_context(cafile=certifier.file)
    if request.param == ENVOY:
        host: EnvoyHost = request.getfixturevalue("envoy")
        store = StoreAddress(kind="sqlite", place=str(tmp_path / "identity.db"))
        with running_in_envoy(host, settings, store, tmp_path) as world:
            yield Listeners(world, certifier, Site(world, host.http_listen, trusting), host.http_mtls_listen)
    else:

        def open_store(clock: Any) -> SqliteStore:
            return SqliteStore.open(str(tmp_path / "identity.db"), clock=clock)

        with running(settings, open_store) as world:
            plain = Site(world, f"127.0.0.1:{world.service.http_port}", trusting)
            yield Listeners(world, certifier, plain, settings.http_mtls_listen)


def ask(site: Site, params: dict[str, str], path: str = "/oauth2/token", **headers: str) -> Answer:
    return site.post(path, urlencode(params), **headers)


def claims(answer: Answer) -> dict[str, Any]:
    """Return the claims of the access token in an answer, without checking the signature."""
    payload = answer.json["access_token"].split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def bound_to(holder: Holder) -> dict[str, str]:
    return {"x5t#S256": base64.urlsafe_b64encode(holder.sha256).rstrip(b"=").decode()}


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json.get("error", "")


# The credential


@pytest.mark.parametrize("name", [SPIFFE, "reports.example"])
def test_a_certificate_gives_a_token_that_is_bound_to_it(listeners: Listeners, name: str) -> None:
    holder = listeners.client("reports", name)

    answer = ask(listeners.shown(holder), CREDENTIALS | {"client_id": "reports"})

    token = claims(answer)
    assert (token["sub"], token["client_id"], token["cnf"]) == ("reports", "reports", bound_to(holder))


def test_a_certificate_and_a_proof_give_a_token_that_is_bound_to_both(listeners: Listeners) -> None:
    """The DPoP proof names the URL that the metadata has for clients with certificates."""
    holder, key = listeners.client("reports", "reports.example"), PartyKey.make()
    uri = "https://mtls.id.example/oauth2/token"
    proof = dpop_proof(key, listeners.world.clock.now(), htu=uri)

    answer = ask(listeners.shown(holder), CREDENTIALS | {"client_id": "reports"}, dpop=proof)

    assert (answer.json["token_type"], claims(answer)["cnf"]) == (
        "DPoP",
        bound_to(holder) | {"jkt": thumbprint(key.public(kid=None))},
    )


def test_a_certificate_that_is_registered_by_its_digest_authenticates_its_client(
    listeners: Listeners,
) -> None:
    holder = listeners.certifier.client("c", "any.example")
    listeners.world.new_client(public=True, certificates=(holder.thumbprint,))

    assert claims(ask(listeners.shown(holder), CREDENTIALS | {"client_id": "reports"}))["sub"] == "reports"


@pytest.mark.parametrize("client_id", ["other", "confidential", "unknown"])
def test_a_certificate_does_not_authenticate_another_client(listeners: Listeners, client_id: str) -> None:
    holder = listeners.client("reports", SPIFFE)
    listeners.client("other", "other.example")
    listeners.world.new_client("confidential")

    answer = ask(listeners.shown(holder), CREDENTIALS | {"client_id": client_id})

    assert refusal(answer) == (401, "invalid_client")


def test_a_certificate_that_is_of_no_client_authenticates_none(listeners: Listeners) -> None:
    listeners.client("reports", SPIFFE)
    holder = listeners.certifier.client("stranger", f"{SPIFFE}2", "reports")

    assert refusal(ask(listeners.shown(holder), CREDENTIALS | {"client_id": "reports"})) == (
        401,
        "invalid_client",
    )


def test_a_request_that_names_no_client_is_not_authenticated(listeners: Listeners) -> None:
    holder = listeners.client("reports", SPIFFE)

    assert refusal(ask(listeners.shown(holder), CREDENTIALS)) == (401, "invalid_client")


def test_a_disabled_client_is_not_authenticated(listeners: Listeners) -> None:
    client = listeners.world.new_client(public=True, certificates=(SPIFFE,))
    site = listeners.shown(listeners.certifier.client("reports", SPIFFE))
    asked = CREDENTIALS | {"client_id": "reports"}
    assert ask(site, asked).status == 200

    listeners.world.disable_client(client)

    until(lambda: refusal(ask(site, asked)) == (401, "invalid_client"))


def test_a_secret_counts_beside_a_certificate_of_another_client(listeners: Listeners) -> None:
    holder = listeners.client("reports", SPIFFE)
    secret = listeners.world.new_client("portal").credential.client_secret.client_secret

    answer = ask(listeners.shown(holder), CREDENTIALS | {"client_id": "portal", "client_secret": secret})

    token = claims(answer)
    assert (token["sub"], "cnf" in token) == ("portal", False)


def test_a_public_client_needs_no_proof_whatever_the_certificate(listeners: Listeners) -> None:
    holder = listeners.client("reports", SPIFFE)
    listeners.world.new_user()
    listeners.world.new_client("app", public=True, grants=(Grant.PASSWORD, Grant.REFRESH_TOKEN))

    signed_in = ask(listeners.shown(holder), SIGN_IN | {"client_id": "app"})
    again = {"grant_type": "refresh_token", "refresh_token": signed_in.json["refresh_token"]}

    assert claims(signed_in)["client_id"] == "app"
    assert claims(ask(listeners.shown(holder), again | {"client_id": "app"}))["client_id"] == "app"


def test_a_user_signs_in_refreshes_and_signs_out_through_a_client_with_a_certificate(
    listeners: Listeners,
) -> None:
    grants = (Grant.PASSWORD, Grant.REFRESH_TOKEN)
    holder = listeners.client("portal", SPIFFE, grants=grants, require_binding=True)
    thief = listeners.client("thief", "thief.example", grants=grants)
    listeners.world.new_user()
    named = {"client_id": "portal"}

    first = ask(listeners.shown(holder), SIGN_IN | named)
    again = {"grant_type": "refresh_token", "refresh_token": first.json["refresh_token"]}
    stolen = ask(listeners.shown(thief), again | {"client_id": "thief"})
    second = ask(listeners.shown(holder), again | named)
    token = {"token": second.json["refresh_token"]}
    revoked = ask(listeners.shown(holder), token | named, "/oauth2/revoke")
    ended = ask(listeners.shown(holder), again | {"refresh_token": token["token"]} | named)

    assert claims(first)["cnf"] == claims(second)["cnf"] == bound_to(holder)
    assert refusal(stolen) == (400, "invalid_grant")
    assert (revoked.status, revoked.body) == (200, b"")
    assert refusal(ended) == (400, "invalid_grant")


def test_a_wrong_certificate_is_refused_before_the_password_is_checked(listeners: Listeners) -> None:
    listeners.client("portal", SPIFFE, grants=(Grant.PASSWORD,))
    listeners.world.new_user()
    stranger = listeners.certifier.client("stranger", "stranger.example")

    answers = [
        ask(listeners.shown(stranger), SIGN_IN | {"client_id": "portal", "password": password})
        for password in (PASSWORD, "wrong")
    ]

    assert [refusal(answer) for answer in answers] == [(401, "invalid_client")] * 2


# Introspection


def test_a_client_with_a_certificate_asks_about_tokens(listeners: Listeners) -> None:
    holder = listeners.client("gateway", "gateway.example", scopes=("identity.verify", "read"))
    site, named = listeners.shown(holder), {"client_id": "gateway"}
    token = ask(site, CREDENTIALS | named | {"scope": "read"}).json["access_token"]

    said = ask(site, {"token": token} | named, "/oauth2/introspect").json

    assert (said["active"], said["cnf"]) == (True, bound_to(holder))


def test_a_bound_token_is_accepted_from_the_holder_of_its_certificate_alone(listeners: Listeners) -> None:
    audience = listeners.world.settings.service_audience
    holder = listeners.client(
        "gateway", "gateway.example", scopes=("identity.verify",), audiences=(audience,)
    )
    thief = listeners.client("thief", "thief.example")
    asked = CREDENTIALS | {"client_id": "gateway", "scope": "identity.verify"}
    token = ask(listeners.shown(holder), asked).json["access_token"]

    said = [
        ask(site, {"token": token}, "/oauth2/introspect", authorization=f"Bearer {token}")
        for site in (listeners.shown(holder), listeners.shown(thief), listeners.plain)
    ]

    assert said[0].json["active"] is True
    assert [refusal(answer) for answer in said[1:]] == [(401, "invalid_token")] * 2


# The listeners


def test_the_other_listener_requests_no_certificate(listeners: Listeners) -> None:
    holder = listeners.client("reports", SPIFFE)
    shown = listeners.shown(holder)
    site = Site(listeners.world, listeners.plain.target, shown.authority)

    assert refusal(ask(site, CREDENTIALS | {"client_id": "reports"})) == (401, "invalid_client")


@pytest.mark.parametrize("mutual", [False, True])
def test_a_certificate_in_a_header_proves_nothing(listeners: Listeners, mutual: bool) -> None:
    victim = listeners.client("reports", SPIFFE)
    own = listeners.certifier.client("own", "own.example")
    pem = quote(victim.certificate_file.read_text(), safe="")
    headers = {
        "x_forwarded_client_cert": f'Hash=00;Cert="{pem}"',
        "client_cert": f":{base64.b64encode(victim.der).decode()}:",
    }

    answer = ask(
        listeners.shown(own) if mutual else listeners.plain, CREDENTIALS | {"client_id": "reports"}, **headers
    )

    assert refusal(answer) == (401, "invalid_client")


def test_a_connection_needs_a_valid_certificate_of_the_client_authorities(
    listeners: Listeners, tmp_path: Path
) -> None:
    listeners.client("reports", SPIFFE)
    foreign = Certifier(tmp_path / "foreign").client("reports", SPIFFE)
    expired = listeners.certifier.client("expired", SPIFFE, lifetime=timedelta(minutes=-5))
    server_only = listeners.certifier.server("server-only", names=(SPIFFE,))

    for holder in (None, foreign, expired, server_only):
        with pytest.raises(REFUSED):
            listeners.shown(holder).get("/livez")


def test_the_metadata_names_the_method_and_the_urls_for_clients_with_certificates(
    listeners: Listeners,
) -> None:
    document = listeners.plain.get("/.well-known/oauth-authorization-server").json

    for endpoint in ("token", "introspection", "revocation"):
        assert "tls_client_auth" in document[f"{endpoint}_endpoint_auth_methods_supported"]
    assert document["tls_client_certificate_bound_access_tokens"] is True
    assert document["mtls_endpoint_aliases"] == {
        "token_endpoint": "https://mtls.id.example/oauth2/token",
        "introspection_endpoint": "https://mtls.id.example/oauth2/introspect",
        "revocation_endpoint": "https://mtls.id.example/oauth2/revoke",
    }


@pytest.mark.parametrize("listeners", [ENVOY], indirect=True)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_envoy_resumes_no_session_since_it_would_not_notice_that_a_certificate_has_expired(
    listeners: Listeners, version: ssl.TLSVersion
) -> None:
    site = listeners.shown(listeners.certifier.client("c", "c.example"))
    context = site.authority
    assert context is not None
    context.minimum_version = context.maximum_version = version

    def connect(session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(site.address, timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
        ):
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            while connection.recv(1024):
                pass
            found = connection.session, connection.session_reused
            connection.unwrap()  # without close_notify, a server drops the TLS session
            return found

    session, _ = connect()

    assert connect(session)[1] is False


def test_a_connection_ends_in_time_so_that_its_certificate_is_verified_again(
    certifier: Certifier, tmp_path: Path
) -> None:
    """The service closes a busy connection at its maximum age.

    Otherwise a client could go on using a certificate that would not be accepted in a new handshake.
    """
    settings = settings_for_tests(**listening(GRPCIO, certifier), max_connection_age=timedelta(seconds=1))
    context = ssl.create_default_context(cafile=certifier.file)
    holder = certifier.client("c", "c.example")
    context.load_cert_chain(holder.certificate_file, holder.key_file)

    def open_store(clock: Any) -> SqliteStore:
        return SqliteStore.open(str(tmp_path / "identity.db"), clock=clock)

    with (
        running(settings, open_store) as world,
        closing(Site(world, settings.http_mtls_listen, context).connect()) as connection,
    ):
        connection.auto_open = 0  # http.client must not reconnect by itself
        connection.connect()
        until(lambda: not _is_answered(connection))


def _is_answered(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().read() != b""
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize("engine", [GRPCIO, ENVOY])
def test_client_authorities_may_be_replaced_while_it_serves(tmp_path: Path, engine: str) -> None:
    certifier, other = Certifier(tmp_path / "tls"), Certifier(tmp_path / "other", "other")
    settings = settings_for_tests(**listening(engine, certifier))
    old, new = certifier.client("old", "old.example"), other.client("new", "new.example")

    def accepts(mutual: str, holder: Holder) -> bool:
        context = ssl.create_default_context(cafile=certifier.file)
        context.load_verify_locations(trust)
        context.load_cert_chain(holder.certificate_file, holder.key_file)
        try:
            return Site(None, mutual, context).get("/livez").status == 200  # type: ignore[arg-type]
        except REFUSED:
            return False

    trust = tmp_path / "trust.pem"
    trust.write_bytes(certifier.file.read_bytes())

    def check(mutual: str) -> None:
        assert (accepts(mutual, old), accepts(mutual, new)) == (True, False)
        replace(certifier.file, other.file.read_bytes())
        until(lambda: (accepts(mutual, old), accepts(mutual, new)) == (False, True))

    if engine == GRPCIO:

        def open_store(clock: Any) -> SqliteStore:
            return SqliteStore.open(str(tmp_path / "identity.db"), clock=clock)

        with running(settings, open_store):
            check(settings.http_mtls_listen)
    else:
        store = StoreAddress(kind="sqlite", place=str(tmp_path / "identity.db"))
        with (
            closing(EnvoyHost(settings, tmp_path)) as host,
            running_in_envoy(host, settings, store, tmp_path),
        ):
            check(host.http_mtls_listen)
