"""LocalVerifier with the real service: it gives the same answers as the service, also after changes."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from identity_client import (
    ClientOptions,
    DecryptionKey,
    IdentityClient,
    LocalVerifier,
    NotFreshError,
    Rejected,
    Verified,
    access_tokens,
    verifier_core,
)
from identity_client.access_tokens import SignedToken
from identity_service.bootstrap import Service
from identity_service.domain.tokens import RejectionReason
from identity_service.storage.sqlite import SqliteStore
from identity_shared.strict import decode_base64url, parse_object
from identityapi.v1 import token_pb2
from tests.clients.answers import HEARTBEAT, not_fresh, said
from tests.high_s import twin
from tests.patience import until
from tests.ports import reserve_address
from tests.rpc.administrator import Administrator
from tests.rpc.conftest import running, settings_for_tests
from tests.rpc.forging import forger_of
from tests.rpc.keys import keys
from tests.rpc.shop import Shop
from tests.rpc.world import API, World

pytestmark = pytest.mark.usefixtures("both_kinds")


CERTIFICATE = "rBnOIn3sgjZHrzpIpR3WBnMhLMAtRqOX9bA9XzgzuaM"
"""The SHA-256 of a certificate that no client of these tests presents."""
THUMBPRINT = decode_base64url(CERTIFICATE)
REASONS_OF_OTHER_TESTS = {RejectionReason.REVOKED}
"""The rejection reasons that separate tests of this module compare."""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def started(**changes: object) -> Iterator[World]:
        settings = settings_for_tests(watch_heartbeat=HEARTBEAT, publish_before=timedelta(0), **changes)
        with running(settings, lambda clock: SqliteStore.open(str(tmp_path / "i.db"), clock=clock)) as world:
            yield world

    return started


@pytest.fixture
def world(start: Callable[..., Any]) -> Iterator[World]:
    with start() as world:
        yield world


@pytest.fixture
def local(world: World) -> Iterator[LocalVerifier]:
    with LocalVerifier(world.target, issuer=world.settings.issuer) as verifier:
        verifier.wait_ready()
        yield verifier


def test_it_gives_the_same_claims_of_a_good_token_as_the_service(world: World, local: LocalVerifier) -> None:
    shop = Shop(world)
    signed_in = shop.sign_in(may_act_client_id="orders")
    exchanged = shop.exchange(signed_in.access_token)
    token = world.issue(world.new_client(), claims={"tenant": "blue", "deep": {"er": [1, "x", None, True]}})

    with IdentityClient(world.target) as client:
        for text in (signed_in.access_token, exchanged.access_token, token.access_token):
            asked = client.verify(text, any_audience=True)
            found = local.verify(text, any_audience=True)
            assert isinstance(found, Verified)
            assert found == asked
            assert local.verify(text, any_audience=True) == asked


def test_it_refuses_bad_tokens_for_the_same_reason_as_the_service(world: World, local: LocalVerifier) -> None:
    token = world.issue(world.new_client()).access_token
    header, claims, _ = token.split(".")
    forger = forger_of(world, token)
    texts = [
        "",
        "x",
        "a.b.c",
        "a.b.c.d.e",
        "x" * 9000,
        f"{token}=",
        f"{token[:-4]}AAAA",
        f"{header}.{claims}",
    ]
    headers: list[dict[str, Any]] = [
        *({"alg": alg} for alg in ("none", "HS256", "EdDSA", 1)),
        *({"typ": type_} for type_ in ("JWT", None)),
        *({"kid": key_id} for key_id in ("other", None)),
        {"crit": ["exp"]},
        {"b64": False},
    ]
    changes: list[dict[str, Any]] = [
        {"iss": "https://evil.example"},
        *({"exp": time} for time in (1, "soon", 10**30)),
        {"iat": 9_000_000_000, "exp": 9_000_000_100},
        {"nbf": 9_000_000_000},
        *({name: None} for name in ("sub", "aud", "jti", "client_id", "iat", "exp", "iss")),
        {"aud": []},
        {"scope": 7},
        {"act": "x"},
        {"may_act": {"sub": "x", "iss": "y"}},
        {"cnf": {"jkt": "x"}},
        {"cnf": {"jkt": CERTIFICATE}},
        {"cnf": {"x5t#S256": CERTIFICATE, "jkt": "x"}},
        {"cnf": {"x5t#S256": CERTIFICATE, "jkt": CERTIFICATE}},
        {"cnf": {"jkt": CERTIFICATE, "kid": "x"}},
        {"cnf": {}},
        {"cnf": {"x5t#S256": "AQ"}},
        {"gen": {"a": "01.x"}},
    ]
    texts += [forger.forge(header=header) for header in headers] + [
        forger.forge(claims=claims) for claims in changes
    ]
    questions: list[tuple[str, dict[str, Any]]] = [(text, {"any_audience": True}) for text in texts]
    questions += [
        (token, {"audiences": ["other"]}),
        (token, {"audiences": [API], "required_scopes": ["admin"]}),
        (token, {"audiences": [API], "dpop_key_sha256": THUMBPRINT}),
    ]
    by_both = forger.forge(claims={"cnf": {"jkt": CERTIFICATE, "x5t#S256": CERTIFICATE}})
    questions += [
        (by_both, {"any_audience": True, **shown})
        for shown in (
            {"dpop_key_sha256": THUMBPRINT},
            {"certificate_sha256": THUMBPRINT},
            {"certificate_sha256": THUMBPRINT, "dpop_key_sha256": b"o" * 32},
        )
    ]

    reasons = set()
    with IdentityClient(world.target) as client:
        for text, asks in questions:
            asked = client.verify(text, **asks)
            assert isinstance(asked, Rejected)
            assert said(local.verify(text, **asks)) == asked.reason, (text, asks)
            assert said(local.verify(text, **asks)) == asked.reason, "the second time"
            reasons.add(asked.reason)
        assert said(client.verify(twin(token), any_audience=True)) == ""
        assert said(local.verify(twin(token), any_audience=True)) == ""
    assert reasons == {reason.value for reason in RejectionReason} - REASONS_OF_OTHER_TESTS


def test_it_may_accept_former_issuers_of_the_service(start: Callable[..., Any]) -> None:
    names = ("https://identity.example", "https://id.example")
    with start(issuer=names[0], accepted_issuers=names[1:]) as world:
        token = world.issue(world.new_client()).access_token
        former, near = (
            forger_of(world, token).forge(claims={"iss": name}) for name in (names[1], f"{names[1]}/")
        )
        for issuer, wanted in (
            (names, ["", "", "UNTRUSTED_ISSUER"]),
            (names[0], ["", "UNTRUSTED_ISSUER", "UNTRUSTED_ISSUER"]),
        ):
            with LocalVerifier(world.target, issuer=issuer) as verifier:
                verifier.wait_ready()
                found = [said(verifier.verify(text, any_audience=True)) for text in (token, former, near)]
            assert found == wanted


def test_it_logs_once_which_issuer_the_service_uses_if_it_accepts_another(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with start(issuer="https://id.example") as world:
        client = world.new_client()
        tokens = [world.issue(client).access_token for _ in range(2)]
        with LocalVerifier(world.target, issuer="https://other.example") as verifier:
            verifier.wait_ready()
            found = [said(verifier.verify(text, any_audience=True)) for text in tokens]

    assert found == ["UNTRUSTED_ISSUER"] * 2
    (message,) = [record.message for record in caplog.records if record.name == "identity_client.verifier"]
    assert "'https://id.example'" in message
    assert "'https://other.example'" in message
    assert "IDENTITY_ISSUER" in message


def test_it_needs_an_issuer() -> None:
    with pytest.raises(ValueError, match="issuer must name"):
        LocalVerifier(issuer=())


@pytest.mark.parametrize("level", ["token_id", "session_id", "subject", "client_id", "everything"])
def test_a_revocation_reaches_it_by_itself(world: World, local: LocalVerifier, level: str) -> None:
    tokens = Shop(world).sign_in()
    verified = local.verify(tokens.access_token, any_audience=True)
    assert isinstance(verified, Verified)

    world.revoke(world.admin_token(), **{level: True if level == "everything" else getattr(verified, level)})

    until(lambda: said(local.verify(tokens.access_token, any_audience=True)) == "REVOKED")
    other = world.issue(world.new_client()).access_token
    assert said(local.verify(other, any_audience=True)) == ""


def test_a_token_of_before_a_revocation_of_everything_is_refused_by_one_that_starts_later(
    world: World,
) -> None:
    before = world.issue(world.new_client()).access_token
    world.revoke(world.admin_token(), everything=True)
    after = world.issue(world.new_client("later")).access_token

    with LocalVerifier(world.target, issuer=world.settings.issuer) as verifier:
        verifier.wait_ready()

        assert said(verifier.verify(before, any_audience=True)) == "REVOKED"
        assert said(verifier.verify(after, any_audience=True)) == ""


def test_tokens_of_a_retired_key_are_refused_and_the_next_key_is_known(
    world: World, local: LocalVerifier
) -> None:
    admin = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    seen, unseen = (world.issue(world.new_client(name)).access_token for name in ("a", "b"))
    assert said(local.verify(seen, any_audience=True)) == ""

    admin.call("RetireKey", key_id=next(iter(keys(world))), reason="leaked")

    until(lambda: said(local.verify(seen, any_audience=True)) == "REVOKED")
    until(lambda: said(local.verify(unseen, any_audience=True)) == "REVOKED")
    assert said(local.verify(world.issue(world.new_client("c")).access_token, any_audience=True)) == ""


@pytest.mark.parametrize("algorithm", ["ES384", "EdDSA", "RS256", "PS256", "ML-DSA-44", "ML-DSA-65"])
def test_the_algorithm_changes_while_it_runs(world: World, local: LocalVerifier, algorithm: str) -> None:
    admin = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    principal = world.new_client()
    old = world.issue(principal).access_token

    made = admin.call("RotateKeys", algorithm=algorithm).key
    new = world.issue(principal).access_token

    assert parse_object(decode_base64url(new.split(".")[0]))["kid"] == made.key_id
    until(lambda: said(local.verify(new, any_audience=True)) == "")
    assert said(local.verify(old, any_audience=True)) == ""
    assert said(local.verify(new[:-8] + "AAAAAAAA", any_audience=True)) == "BAD_SIGNATURE"


def test_nothing_is_called_good_before_everything_is_known() -> None:
    options = ClientOptions(timeout=timedelta(seconds=1))
    with LocalVerifier("127.0.0.1:1", issuer="x", options=options) as verifier:
        with pytest.raises(NotFreshError, match="the revocations are not completely known yet"):
            verifier.verify("a.b.c", any_audience=True)
        with pytest.raises(NotFreshError):
            verifier.wait_ready(timedelta(milliseconds=50))


def test_nothing_is_called_good_once_the_service_is_gone(start: Callable[..., Any]) -> None:
    with start() as world:
        token = world.issue(world.new_client()).access_token
        verifier = LocalVerifier(world.target, issuer=world.settings.issuer)
        verifier.wait_ready()
        assert said(verifier.verify(token, any_audience=True)) == ""

    def is_stale() -> bool:
        try:
            verifier.verify(token, any_audience=True)
        except NotFreshError as error:
            return "no recent heartbeat of the service has arrived" in str(error)
        return False

    until(is_stale)
    verifier.close()


def judged(verifier: LocalVerifier, token: str) -> str:
    """Return the outcome for a token; NOT_FRESH if the verifier is too stale to give one."""
    try:
        return said(verifier.verify(token, any_audience=True))
    except NotFreshError:
        return "NOT_FRESH"


def test_it_goes_on_with_a_service_that_comes_back(start: Callable[..., Any], tmp_path: Path) -> None:
    with start(listen=reserve_address()) as world:
        token, other = (world.issue(world.new_client(name)).access_token for name in ("a", "b"))
        verifier = LocalVerifier(world.target, issuer=world.settings.issuer)
        verifier.wait_ready()
        store_admin, listen = world.store_admin, world.target
    store = SqliteStore.open(str(tmp_path / "i.db"), clock=world.clock)
    again = Service(
        store_admin.settings.model_copy(update={"listen": listen}), clock=world.clock, store=store
    )
    again.start()
    try:
        with IdentityClient(listen) as client, verifier:
            client.revoke_token(token)

            until(lambda: judged(verifier, token) == "REVOKED")
            until(lambda: judged(verifier, other) == "")
    finally:
        again.stop()


def test_a_store_of_shared_keys_cannot_be_verified_without_asking(start: Callable[..., Any]) -> None:
    with (
        start(algorithm="HS256") as world,
        LocalVerifier(world.target, issuer=world.settings.issuer) as verifier,
    ):
        until(lambda: "HS256" in not_fresh(verifier))


def test_a_watcher_that_has_to_prove_itself_does(start: Callable[..., Any]) -> None:
    with start(require_caller_auth=True) as world:
        token = world.issue(world.new_client()).access_token
        options = ClientOptions(bearer=lambda: world.admin_token(scopes=["identity.verify"]))
        with LocalVerifier(world.target, issuer=world.settings.issuer, options=options) as verifier:
            verifier.wait_ready()
            assert said(verifier.verify(token, audiences=[API])) == ""


def test_it_decrypts_a_token_that_was_encrypted_to_it(world: World) -> None:
    key = DecryptionKey(ECKey.generate_key("P-256").as_dict(private=True), key_id="api-1")
    world.new_client(API, encryption_key=key.public_jwk())
    token = world.issue(world.new_client(), encryption=token_pb2.TOKEN_ENCRYPTION_AUDIENCE).access_token

    with LocalVerifier(world.target, issuer=world.settings.issuer, decryption_keys=[key]) as verifier:
        verifier.wait_ready()
        assert said(verifier.verify(token, audiences=[API])) == ""
    with LocalVerifier(world.target, issuer=world.settings.issuer) as stranger:
        stranger.wait_ready()
        assert said(stranger.verify(token, audiences=[API])) == "UNDECRYPTABLE"


def test_a_bound_token_needs_its_certificate(world: World, local: LocalVerifier) -> None:
    thumbprint = hashlib.sha256(b"certificate").digest()
    token = world.issue(world.new_client()).access_token
    bound = forger_of(world, token).forge(claims={"cnf": {"x5t#S256": CERTIFICATE}})

    assert said(local.verify(bound, any_audience=True)) == "BINDING_MISMATCH"
    assert said(local.verify(bound, any_audience=True, certificate_sha256=thumbprint)) == "BINDING_MISMATCH"
    assert said(local.verify(bound, any_audience=True, certificate_sha256=THUMBPRINT)) == ""


def test_a_token_that_is_bound_to_a_key_needs_its_proof(world: World, local: LocalVerifier) -> None:
    token = world.issue(world.new_client()).access_token
    bound = forger_of(world, token).forge(claims={"cnf": {"jkt": CERTIFICATE}})

    assert said(local.verify(bound, any_audience=True)) == "BINDING_MISMATCH"
    assert said(local.verify(bound, any_audience=True, dpop_key_sha256=b"o" * 32)) == "BINDING_MISMATCH"
    assert said(local.verify(bound, any_audience=True, dpop_key_sha256=THUMBPRINT)) == ""


def test_a_token_that_is_bound_to_both_needs_both(world: World, local: LocalVerifier) -> None:
    token = world.issue(world.new_client()).access_token
    bound = forger_of(world, token).forge(claims={"cnf": {"jkt": CERTIFICATE, "x5t#S256": CERTIFICATE}})
    shown: dict[str, Any] = {"certificate_sha256": THUMBPRINT, "dpop_key_sha256": THUMBPRINT}

    verified = local.verify(bound, any_audience=True, **shown)
    with IdentityClient(world.target) as client:
        asked = client.verify(bound, any_audience=True, **shown)

    for outcome in (verified, asked):
        assert isinstance(outcome, Verified)
        assert (outcome.certificate_sha256, outcome.dpop_key_sha256) == (THUMBPRINT, THUMBPRINT)


def test_an_unbound_token_is_not_accepted_with_a_proof(world: World, local: LocalVerifier) -> None:
    token = world.issue(world.new_client()).access_token

    assert said(local.verify(token, any_audience=True, dpop_key_sha256=THUMBPRINT)) == "BINDING_MISMATCH"


def test_the_audience_must_be_given(world: World, local: LocalVerifier) -> None:
    token = world.issue(world.new_client()).access_token

    with pytest.raises(ValueError, match="audiences"):
        local.verify(token)
    with pytest.raises(TypeError):
        local.verify(token, audiences="api")


def test_no_change_of_a_good_token_is_accepted(world: World, local: LocalVerifier) -> None:
    token = world.issue(world.new_client()).access_token
    wrong = []
    for at in range(0, len(token), 3):
        for other in "Aa9-_.= \x00ü":
            changed = token[:at] + other + token[at + 1 :]
            if changed not in (token, twin(token)):
                wrong += [changed] if not said(local.verify(changed, any_audience=True)) else []
    assert wrong == []


def test_a_token_takes_as_much_of_the_cache_as_its_claims_take_of_the_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, read = world.new_client(), list[str]()

    def noted(text: str, *rest: Any) -> SignedToken:
        read.append(text)
        return access_tokens.read(text, *rest)

    monkeypatch.setattr(verifier_core, "read", noted)
    lists: list[list[int]] = [[] for _ in range(500)]
    plain, heavy = (world.issue(client, claims={"a": value}).access_token for value in (1, lists))
    with LocalVerifier(world.target, issuer=world.settings.issuer, cache_bytes=100_000) as verifier:
        verifier.wait_ready()
        for text in (plain, heavy) * 2:
            assert said(verifier.verify(text, any_audience=True)) == ""

    # The second one weighs more than half of the cache, and is not kept.
    assert read == [plain, heavy, heavy]


def test_a_watcher_too_many_gets_in_when_another_one_leaves(start: Callable[..., Any]) -> None:
    with start(max_watchers=1) as world:
        issuer = world.settings.issuer
        with LocalVerifier(world.target, issuer=issuer) as first:
            first.wait_ready()
            second = LocalVerifier(world.target, issuer=issuer)
            until(lambda: "too many watchers" in not_fresh(second))
        with second:
            second.wait_ready(timedelta(seconds=30))
