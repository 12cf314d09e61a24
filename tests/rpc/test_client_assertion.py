"""Client assertions (RFC 7523) over gRPC: valid ones authenticate a client, and all others are refused."""

import base64
import hmac
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from jwt import PyJWK

from identity_client import AssertionSigner
from identity_service.domain.audit import AuditFilter
from identity_service.domain.ids import PrincipalId, base64url
from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.domain.principals import Client, Grant
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.jwts import PartyKey, assertion_claims, encode
from tests.patience import until
from tests.rpc.conftest import StartWorld
from tests.rpc.world import Principal, World, failure, password

KEYS = {algorithm: PartyKey.make(algorithm, f"key-{algorithm}") for algorithm in ISSUER_ALGORITHMS}
KEY = KEYS["ES256"]
RSA = KEYS["RS256"]
OTHER = PartyKey.make("ES256", "other")
Forge = Callable[[World], str]


@pytest.fixture
def one(start_world: StartWorld) -> World:
    """A service with two clients: `reports`, which has a key of each algorithm, and `other`."""
    world = start_world()
    new_key_client(world)
    world.new_client("other", public=True, public_keys=(OTHER.public_jwk,))
    return world


def new_key_client(world: World, client_id: str = "reports", **changes: object) -> Principal:
    keys = tuple(key.public_jwk for key in KEYS.values())
    return world.new_client(client_id, public=True, **({"public_keys": keys} | changes))


def credential(jwt: str) -> token_pb2.Credential:
    return token_pb2.Credential(client_assertion=token_pb2.ClientAssertion(jwt=jwt))


def issue(world: World, jwt: str) -> token_pb2.TokenSet:
    return world.stub.Issue(pb.IssueRequest(credential=credential(jwt))).token_set


def refusal(world: World, jwt: str) -> str:
    """Return the reason why the assertion is refused. The message must be the same for every refusal."""
    with pytest.raises(grpc.RpcError) as refused:
        issue(world, jwt)
    found = failure(refused.value)
    assert found.code is grpc.StatusCode.UNAUTHENTICATED
    assert found.message == "the credential was refused"
    return found.reason


def claims(world: World, **changes: object) -> dict[str, Any]:
    return assertion_claims("reports", world.clock.now(), **changes)


@pytest.mark.parametrize("algorithm", ISSUER_ALGORITHMS)
def test_an_assertion_proves_its_client(one: World, algorithm: str) -> None:
    tokens = issue(one, KEYS[algorithm].jwt(claims(one)))
    said = one.verify(tokens.access_token).verified

    assert (said.subject, said.client_id, list(said.scopes)) == ("reports", "reports", ["read", "write"])
    assert tokens.refresh_token == ""


def test_without_a_kid_it_is_proven_by_the_only_key_of_its_algorithm(one: World) -> None:
    assert issue(one, KEY.jwt(claims(one), {"alg": "ES256"})).access_token
    assert refusal(one, OTHER.jwt(claims(one), {"alg": "ES256"})) == "CREDENTIAL_REFUSED"


def test_without_a_kid_it_is_refused_if_the_client_has_two_keys_of_its_algorithm(
    start_world: StartWorld,
) -> None:
    world = start_world()
    new_key_client(world, public_keys=(KEY.public_jwk, OTHER.public_jwk))

    assert refusal(world, KEY.jwt(claims(world), {"alg": "ES256"})) == "CREDENTIAL_REFUSED"
    assert issue(world, KEY.jwt(claims(world))).access_token


@pytest.mark.parametrize("type_", ["JWT", "jwt", "client-authentication+jwt", "application/JWT", None])
def test_these_types_are_those_of_an_assertion(one: World, type_: str | None) -> None:
    header = {"alg": "ES256", "kid": KEY.key_id} | ({"typ": type_} if type_ else {})

    assert issue(one, KEY.jwt(claims(one), header)).access_token


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 3599, "iat": None},
        {"nbf": -1},
        {"nbf": 8, "iat": 8},
        {"exp": -8},
        {"jti": "x" * 1024},
        {"extra": {"anything": [1]}},
    ],
    ids=str,
)
def test_further_claims_that_an_assertion_may_have(one: World, changes: dict[str, Any]) -> None:
    assert issue(one, KEY.jwt(claims(one, **changes))).access_token


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"aud": "somebody-else"},
    {"aud": ["identity-service"]},
    {"aud": ["identity-service", "somebody-else"]},
    {"aud": "identity-service/"},
    {"aud": "identity-servic"},
    {"aud": "IDENTITY-SERVICE"},
    {"aud": ""},
    {"aud": None},
    {"iss": "other"},
    {"sub": "other"},
    {"iss": "other", "sub": "other"},
    {"iss": "nobody", "sub": "nobody"},
    {"iss": "a' OR '1'='1", "sub": "a' OR '1'='1"},
    {"iss": "*", "sub": "*"},
    {"sub": None},
    {"jti": None},
    {"exp": None},
    {"exp": -11},
    {"exp": 3611},
    {"exp": 86400},
    {"exp": "4102444800"},
    {"iat": 12},
    {"iat": "1"},
    {"nbf": 12},
]


@pytest.mark.parametrize("changes", WRONG_CLAIMS, ids=str)
def test_wrong_claims_prove_nothing(one: World, changes: dict[str, Any]) -> None:
    assert refusal(one, KEY.jwt(claims(one, **changes))) == "CREDENTIAL_REFUSED"
    assert issue(one, KEY.jwt(claims(one))).access_token


def hmac_signed(secret: Callable[[], bytes]) -> Forge:
    """Return a function that makes an assertion with HS256, using the client's public key as the secret.

    A careless verifier would take the public key for an HMAC key and accept the assertion.
    """

    def forge(world: World) -> str:
        message = f"{encode({'alg': 'HS256', 'typ': 'JWT', 'kid': RSA.key_id})}.{encode(claims(world))}"
        return f"{message}.{base64url(hmac.digest(secret(), message.encode(), 'sha256'))}"

    return forge


def _public(encoding: serialization.Encoding) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key: bytes = PyJWK(RSA.public()).key.public_bytes(encoding, form)
    return key


def unsigned(algorithm: str) -> Forge:
    return lambda world: f"{encode({'alg': algorithm, 'kid': KEY.key_id})}.{encode(claims(world))}."


def with_header(**members: Any) -> Forge:
    return lambda world: KEY.jwt(claims(world), **members)


def by_thief(**members: object) -> Forge:
    thief = PartyKey.make("ES256", KEY.key_id)
    given: dict[str, Any] = {"jwk": thief.public()} if members.get("jwk") else members
    return lambda world: thief.jwt(claims(world), **given)


def malleable(world: World) -> str:
    """Return an assertion whose last base64url character has unused bits set.

    A lenient decoder would return the same signature for it, so that one assertion had two spellings.
    """
    good = KEY.jwt(claims(world))
    return good[:-1] + chr(ord(good[-1]) + 1)


FORGERIES: dict[str, Forge] = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg nOnE": unsigned("nOnE"),
    "no alg": unsigned(""),
    "no signature": unsigned("ES256"),
    "HS256 by PEM": hmac_signed(lambda: _public(serialization.Encoding.PEM)),
    "HS256 by DER": hmac_signed(lambda: _public(serialization.Encoding.DER)),
    "HS256 by JWK": hmac_signed(lambda: RSA.public_jwk.encode()),
    "HS256 by modulus": hmac_signed(lambda: base64.urlsafe_b64decode(RSA.public()["n"] + "==")),
    "another algorithm of the key": lambda w: PartyKey(
        key_id=RSA.key_id, algorithm="PS256", given=RSA.private_jwk.replace("RS256", "PS256")
    ).jwt(claims(w)),
    "jwk": by_thief(jwk=True),
    "jku": by_thief(jku="https://thief.example/keys"),
    "x5u": by_thief(x5u="https://thief.example/keys"),
    "x5c": by_thief(x5c=["AAAA"]),
    "kid of another key of the client": with_header(kid=RSA.key_id),
    "kid that is a path": with_header(kid="../../../../dev/null"),
    "kid that is SQL": with_header(kid="' UNION SELECT 'x' --"),
    "kid with NUL": with_header(kid=f"{KEY.key_id}\x00"),
    "kid with a lone surrogate": with_header(kid="\ud800"),
    "a very long kid": with_header(kid="k" * 5000),
    "an empty kid": with_header(kid=""),
    "crit": with_header(crit=["exp"], exp=1),
    "b64": with_header(b64=False, crit=["b64"]),
    "of an access token's type": with_header(typ="at+jwt"),
    "of another type": with_header(typ="logout+jwt"),
    "the key of another client": lambda w: OTHER.jwt(claims(w)),
    "two exp": lambda w: KEY.jwt(json.dumps(claims(w)).replace('"exp"', '"exp": 9999999999, "exp"')),
    "two alg": lambda w: KEY.jwt(claims(w), f'{{"alg":"none","alg":"ES256","kid":"{KEY.key_id}"}}'),
    "padding": lambda w: KEY.jwt(claims(w)) + "==",
    "a line break": lambda w: KEY.jwt(claims(w)) + "\n",
    "other bits of padding": malleable,
    "a signature cut short": lambda w: KEY.jwt(claims(w))[:-4],
    "four parts": lambda w: KEY.jwt(claims(w)) + ".x",
    "not a JWT": lambda w: "x",
    "claims that are a list": lambda w: KEY.jwt("[1]"),
    "its own access token": lambda w: issue(w, KEY.jwt(claims(w))).access_token,
    "an access token of an administrator": lambda w: w.admin_token(),
    "a refresh token": lambda w: w.issue(w.new_user()).refresh_token,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_forgeries_prove_nothing(one: World, forge: Forge) -> None:
    assert refusal(one, forge(one)) == "CREDENTIAL_REFUSED"
    assert issue(one, KEY.jwt(claims(one))).access_token


def test_one_that_is_too_long_is_an_invalid_request(one: World) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        issue(one, KEY.jwt(claims(one, extra="x" * 8192)))

    assert failure(refused.value).fields == {
        "credential.client_assertion.jwt": "must have at most 8192 characters"
    }


def test_an_assertion_works_once(world: World) -> None:
    new_key_client(world)
    jwt = KEY.jwt(claims(world))

    assert issue(world, jwt).access_token
    assert refusal(world, jwt) == "CREDENTIAL_REFUSED"
    same_id = json.loads(base64.urlsafe_b64decode(jwt.split(".")[1] + "=="))
    assert refusal(world, RSA.jwt(same_id)) == "CREDENTIAL_REFUSED"
    assert issue(world, KEY.jwt(claims(world))).access_token


def test_of_32_at_once_exactly_one_gets_tokens(world: World) -> None:
    new_key_client(world)
    jwt = KEY.jwt(claims(world))

    def attempt(_: int) -> str:
        try:
            return issue(world, jwt).token_type
        except grpc.RpcError as error:
            return failure(error).reason

    with ThreadPoolExecutor(32) as pool:
        assert sorted(pool.map(attempt, range(32))) == ["Bearer", *["CREDENTIAL_REFUSED"] * 31]


def test_one_client_cannot_use_up_the_ids_of_another(one: World) -> None:
    mine = claims(one, jti="shared")
    theirs = assertion_claims("other", one.clock.now(), jti="shared")

    assert issue(one, OTHER.jwt(theirs)).access_token
    assert issue(one, KEY.jwt(mine)).access_token


def test_a_forgery_does_not_use_up_an_id(one: World) -> None:
    jwt = KEY.jwt(claims(one))
    header, payload, _ = jwt.split(".")
    forged = PartyKey.make().jwt({}).split(".")[2]

    assert refusal(one, f"{header}.{payload}.{forged}") == "CREDENTIAL_REFUSED"
    assert issue(one, jwt).access_token


def test_a_disabled_client_proves_nothing(one: World) -> None:
    one.disable_client(Principal(id="reports", credential=token_pb2.Credential()))
    one.verify("x", strong=True)

    assert refusal(one, KEY.jwt(claims(one))) == "CREDENTIAL_REFUSED"


def test_a_key_that_was_removed_proves_nothing(one: World) -> None:
    left = tuple(key.public_jwk for key in KEYS.values() if key is not KEY)
    wanted = Client(client_id=PrincipalId("reports"), public_keys=left)
    one.store_admin.administrator.clients.update(wanted, ["public_keys"])
    one.verify("x", strong=True)

    assert refusal(one, KEY.jwt(claims(one))) == "CREDENTIAL_REFUSED"
    assert issue(one, RSA.jwt(claims(one))).access_token


def test_a_token_issued_for_an_assertion_is_revoked_with_its_client(one: World) -> None:
    tokens = issue(one, KEY.jwt(claims(one)))

    one.revoke(one.admin_token(), client_id="reports")

    assert one.reason(tokens.access_token) == "REVOKED"
    assert one.reason(issue(one, KEY.jwt(claims(one))).access_token) == ""


def test_the_audience_is_the_issuer_name_of_the_service(start_world: StartWorld) -> None:
    world = start_world(issuer="https://id.example")
    new_key_client(world)

    assert refusal(world, KEY.jwt(claims(world))) == "CREDENTIAL_REFUSED"
    assert issue(world, KEY.jwt(claims(world, aud="https://id.example"))).access_token


@pytest.fixture
def session(world: World) -> token_pb2.TokenSet:
    """The tokens of ana, who signed in through the client `portal`, which has a secret and a key."""
    grants = (Grant.PASSWORD, Grant.REFRESH_TOKEN)
    portal = world.new_client("portal", grants=grants, public_keys=(KEY.public_jwk,))
    world.new_user()
    secret = portal.credential.client_secret.client_secret
    sign_in = password("ana", client_id="portal", secret=secret)
    return world.stub.Issue(pb.IssueRequest(credential=sign_in)).token_set


def fresh(world: World, client_id: str = "portal") -> token_pb2.Credential:
    return credential(KEY.jwt(assertion_claims(client_id, world.clock.now())))


def test_a_session_is_refreshed_with_an_assertion(world: World, session: token_pb2.TokenSet) -> None:
    shown = fresh(world)

    renewed = world.refresh(session.refresh_token, client_credential=shown)
    assert world.reason(renewed.access_token) == ""
    with pytest.raises(grpc.RpcError) as replayed:
        world.refresh(renewed.refresh_token, client_credential=shown)
    assert failure(replayed.value).reason == "CREDENTIAL_REFUSED"


def test_a_session_is_not_refreshed_with_an_assertion_of_another_client(
    world: World, session: token_pb2.TokenSet
) -> None:
    new_key_client(world)

    with pytest.raises(grpc.RpcError) as refused:
        world.refresh(session.refresh_token, client_credential=fresh(world, "reports"))

    assert failure(refused.value).reason == "CREDENTIAL_REFUSED"


def test_refreshes_at_once_with_an_assertion_each_all_succeed(
    world: World, session: token_pb2.TokenSet
) -> None:
    """A refresh that loses the race reads the session again.

    It must not consume its assertion a second time.
    """
    shown = [fresh(world) for _ in range(16)]

    with ThreadPoolExecutor(16) as pool:
        found = list(
            pool.map(lambda each: world.refresh(session.refresh_token, client_credential=each), shown)
        )

    assert len({tokens.refresh_token for tokens in found}) == 1


def test_a_person_cannot_sign_in_through_a_client_that_can_prove_itself_by_assertion_alone(
    world: World,
) -> None:
    """A password credential has fields for a client secret, but none for a client assertion."""
    new_key_client(world, "portal", grants=(Grant.PASSWORD, Grant.REFRESH_TOKEN))
    world.new_user()

    with pytest.raises(grpc.RpcError) as refused:
        world.stub.Issue(pb.IssueRequest(credential=password("ana", client_id="portal")))

    assert failure(refused.value).reason == "CREDENTIAL_REFUSED"


def test_the_signer_of_the_sdk_proves_its_client(one: World) -> None:
    signer = AssertionSigner("sdk", PyJWK(json.loads(KEY.private_jwk)).key)
    one.new_client("sdk", public=True, public_keys=(signer.public_jwk(),))

    for _ in range(2):
        assertion = signer()  # by the real clock
        one.clock.advance(seconds=(datetime.now(UTC) - one.clock.now()).total_seconds())
        assert issue(one, assertion).access_token


@pytest.mark.settings(audit_traffic="store")
@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (
            lambda w: KEY.jwt(claims(w, aud="x")),
            "the assertion's aud is not exactly a name of this service",
        ),
        (lambda w: KEY.jwt(claims(w), kid="x"), "the assertion is of no client that has such a key"),
        (lambda w: KEY.jwt(claims(w, exp="x")), "it is malformed: exp must be a date in seconds"),
    ],
    ids=["aud", "kid", "exp"],
)
def test_the_audit_event_has_a_reason_that_the_caller_does_not_get(
    one: World, forge: Forge, why: str
) -> None:
    refusal(one, forge(one))

    def reasons() -> list[str]:
        events, _ = one.store.audit.list_newest(AuditFilter(types=["issue_refused"]))
        return [stored.event.details.get("why", "") for stored in events]

    until(lambda: bool(reasons()))
    assert reasons() == [why]
