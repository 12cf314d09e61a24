"""RFC 8725, the best current practices for JWT, section by section, against a running service.

The attacker has the signing key of the service: each token has a good signature and is invalid only in the
property that its section forbids. The control is `test_unchanged_tokens_of_the_forger_are_good`.
"""

import hmac
import json
import socket
import warnings

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, RSAKey
from jwt.algorithms import RSAAlgorithm

from identity_service.domain.ids import KeyId, base64url
from identity_service.domain.keys import KeyPurpose
from identity_shared.strict import decode_base64url
from identityapi.v1 import token_pb2
from tests.rpc.administrator import Administrator
from tests.rpc.forging import Json, TokenForger, changed, forger_of, key_of
from tests.rpc.world import World, failure


@pytest.fixture
def forger(world: World) -> TokenForger:
    return forger_of(world, world.issue(world.new_client()).access_token)


def test_unchanged_tokens_of_the_forger_are_good(world: World, forger: TokenForger) -> None:
    assert world.reason(forger.forge()) == ""
    assert world.reason(forger.forge(claims={"tenant": "blue"})) == ""


def test_3_1_the_algorithm_is_that_of_the_key_and_of_no_header(world: World, forger: TokenForger) -> None:
    for algorithm in ("none", "HS256", "RS256", "EdDSA", "ES384", "es256"):
        assert world.reason(forger.forge({"alg": algorithm})) == "ALGORITHM_NOT_ALLOWED", algorithm
    public = key_of(world, KeyPurpose.SIGN).public_jwk or ""
    header, claims = changed(forger.header, {"alg": "HS256"}), changed(forger.claims, {})
    message = f"{base64url(header)}.{base64url(claims)}"
    for secret in (public, json.loads(public)["x"], forger.header["kid"]):
        mac = hmac.digest(secret.encode(), message.encode(), "sha256")
        assert world.reason(f"{message}.{base64url(mac)}") == "ALGORITHM_NOT_ALLOWED"


def test_3_2_weak_algorithms_do_not_exist(world: World, admin: Administrator, forger: TokenForger) -> None:
    assert world.reason(forger.forge().rpartition(".")[0] + ".") == "BAD_SIGNATURE"
    for algorithm in ("none", "RS1", "HS1", "ES256K", "RSA1_5", "dir"):
        with pytest.raises(grpc.RpcError) as error:
            admin.call("RotateKeys", algorithm=algorithm)
        assert "must be one of" in failure(error.value).fields["algorithm"]
    inside, kid = forger.forge().encode(), key_of(world, KeyPurpose.ENCRYPT).key_id
    pair, shared = RSAKey.generate_key(2048), OctKey.generate_key(256)
    for algorithm, key in (
        ("RSA1_5", pair),
        ("RSA-OAEP", pair),
        ("PBES2-HS256+A128KW", shared),
        ("dir", shared),
    ):
        registry = jwe.JWERegistry(algorithms=[algorithm, "A256GCM"])
        header = {"alg": algorithm, "enc": "A256GCM", "kid": kid, "typ": "at+jwt", "cty": "JWT"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of RSA1_5
            text = jwe.encrypt_compact(
                header | {"typ": "at+jwt", "cty": "JWT"}, inside, key, registry=registry
            )
        assert world.reason(text) == "UNDECRYPTABLE", algorithm


def test_3_3_every_operation_counts_both_layers_of_a_nested_token(world: World, forger: TokenForger) -> None:
    good = forger.forge()
    stranger = good[:-4] + ("AAAA" if not good.endswith("AAAA") else "BBBB")

    assert world.reason(encrypted(world, good)) == ""
    assert world.reason(encrypted(world, stranger)) == "BAD_SIGNATURE"
    assert world.reason(encrypted(world, good)[:-4] + "AAAA") == "UNDECRYPTABLE"


def test_3_4_cryptographic_inputs_are_checked(
    world: World, admin: Administrator, forger: TokenForger
) -> None:
    token = encrypted(world, forger.forge())
    header = json.loads(decode_base64url(token.split(".")[0]))
    for changes in ({"x": base64url(bytes(32)), "y": base64url(bytes(32))}, {"crv": "P-521"}, {"y": "AQ"}):
        off = header | {"epk": header["epk"] | changes}
        moved = ".".join([base64url(json.dumps(off).encode()), *token.split(".")[1:]])
        assert world.reason(moved) == "UNDECRYPTABLE"
    point = ECKey.generate_key("P-256", private=False).as_dict() | {"kid": "k", "alg": "ES256"}
    assert refusal(admin, "public_keys", json.dumps(point)) == ""
    assert "well-formed" in refusal(admin, "public_keys", json.dumps(point | {"y": point["x"]}))


def test_3_5_a_key_has_enough_entropy(admin: Administrator) -> None:
    weak = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505
    public = RSAAlgorithm.to_jwk(weak, as_dict=True)
    small = {"kty": "RSA", "n": public["n"], "e": public["e"], "kid": "k"}
    enough = RSAKey.generate_key(2048, private=False).as_dict() | {"kid": "k"}

    assert refusal(admin, "public_keys", json.dumps(enough | {"alg": "RS256"})) == ""
    assert "2048" in refusal(admin, "public_keys", json.dumps(small | {"alg": "RS256"}))
    assert refusal(admin, "encryption_key", json.dumps(enough | {"alg": "RSA-OAEP-256"})) == ""
    assert "2048" in refusal(admin, "encryption_key", json.dumps(small | {"alg": "RSA-OAEP-256"}))


def test_3_6_nothing_is_compressed_before_it_is_encrypted(world: World, forger: TokenForger) -> None:
    principal = world.new_client("packer")
    issued = world.issue(principal, encryption=token_pb2.TOKEN_ENCRYPTION_SERVICE).access_token

    assert "zip" not in json.loads(decode_base64url(issued.split(".")[0]))
    assert world.reason(encrypted(world, forger.forge(claims={"a": "a" * 3000}))) == ""
    assert (
        world.reason(encrypted(world, forger.forge(claims={"a": "a" * 3000}), zip="DEF")) == "UNDECRYPTABLE"
    )


def test_3_7_everything_is_utf_8(world: World, forger: TokenForger) -> None:
    header, claims = changed(forger.header, {}), changed(forger.claims, {"name": "Zoë"})

    assert world.reason(forger.sign(header, claims)) == ""
    for encoding in ("utf-16", "utf-32", "latin-1", "utf-8-sig"):
        assert world.reason(forger.sign(header, claims.decode().encode(encoding))) == "MALFORMED", encoding


def test_3_8_issuer_and_subject_are_there_and_are_ours(world: World, forger: TokenForger) -> None:
    issuer = forger.claims["iss"]
    for other in ("https://evil.example", issuer + "/", issuer.upper(), issuer[:-1]):
        assert world.reason(forger.forge(claims={"iss": other})) == "UNTRUSTED_ISSUER", other
    for claim in ("iss", "sub", "client_id"):
        assert world.reason(forger.forge(claims={claim: None})) == "MALFORMED", claim
    assert world.reason(forger.forge(claims={"sub": ""})) == "MALFORMED"


def test_3_9_a_token_is_for_its_audience_alone(world: World, forger: TokenForger) -> None:
    assert world.reason(forger.forge(), audiences=["api"]) == ""
    for other in (["api2"], ["ap"], ["API"], ["billing", "ledger"]):
        assert world.reason(forger.forge(), audiences=other) == "WRONG_AUDIENCE"
    assert world.reason(forger.forge(claims={"aud": None})) == "MALFORMED"


def test_3_10_no_claim_and_no_header_makes_the_service_do_anything(world: World, forger: TokenForger) -> None:
    for key_id in ("../../etc/passwd", "' OR '1'='1", "a\x00b", "$(id)", "*key", "x" * 256):
        assert world.reason(forger.forge({"kid": key_id})) == "UNKNOWN_KEY", key_id
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/keys"
        brought: Json = {"jku": url, "x5u": url, "x5c": ["MIIB"], "jwk": {"kty": "oct", "k": "AAAA"}}
        assert world.reason(forger.forge(brought, {"iss_keys": url})) == ""
        assert world.reason(forger.forge(brought | {"kid": "unknown"})) == "UNKNOWN_KEY"
        assert world.reason(forger.forge(claims={"iss": url})) == "UNTRUSTED_ISSUER"
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_3_11_the_type_is_set_and_checked(world: World, forger: TokenForger) -> None:
    assert world.reason(forger.forge({"typ": "application/at+jwt"})) == ""
    assert world.reason(forger.forge({"typ": None})) == "WRONG_TYPE"
    for other in ("JWT", "jwt", "id_token+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "at+jwt "):
        assert world.reason(forger.forge({"typ": other})) == "WRONG_TYPE", other


def test_3_12_no_kind_of_token_is_taken_for_another(world: World) -> None:
    tokens = world.issue(world.new_user())

    assert world.reason(tokens.access_token) == ""
    assert world.reason(tokens.refresh_token) == "MALFORMED"
    with pytest.raises(grpc.RpcError) as error:
        world.refresh(tokens.access_token)
    assert failure(error.value).reason == "REFRESH_TOKEN_INVALID"


def encrypted(world: World, inside: str, **header: str) -> str:
    """Return a token encrypted to the public key of the service, as any client can make one."""
    stored = key_of(world, KeyPurpose.ENCRYPT)
    key = ECKey.import_key(json.loads(stored.public_jwk or ""))
    known = {"alg": stored.algorithm, "enc": "A256GCM", "kid": stored.key_id, "typ": "at+jwt", "cty": "JWT"}
    registry = jwe.JWERegistry(algorithms=[stored.algorithm, "A256GCM", "DEF"])
    return jwe.encrypt_compact(known | header, inside.encode(), key, registry=registry)


def refusal(admin: Administrator, field: str, key: str) -> str:
    """Return the reason why a client cannot be registered with this key, or "" if it can."""
    name = KeyId(base64url(key.encode())[-20:]).strip("-_") or "k"
    value = [key] if field == "public_keys" else key
    try:
        admin.call("CreateClient", client={"client_id": name, field: value}, no_secret=True)
    except grpc.RpcError as error:
        return next(iter(failure(error).fields.values()))
    return ""
