"""Reading DPoP proofs: one spelling, exact types, a strong public key, and a signature by that key."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from identity_service.domain.credential_errors import DpopProofRefusedError
from identity_service.domain.ids import base64url
from identity_service.domain.secret import Secret
from identity_service.jose.dpop import DPOP_ALGORITHMS, StrictDpopProofs
from identity_shared.strict import decode_base64url
from tests.dpop_proofs import dpop_claims, dpop_header, dpop_proof
from tests.jwts import PartyKey, encode
from tests.unit.jose.vectors import needs_vectors, vector
from tests.weak_keys import ODD, WEAK, Numbers, roca_jwk, rsa_jwk

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEYS = {algorithm: PartyKey.make(algorithm) for algorithm in DPOP_ALGORITHMS}
KEY = KEYS["ES256"]
CLAIMS = dpop_claims(NOW, jti="p1", nonce="n", ath=base64url(b"h" * 32))
TEXT = json.dumps(CLAIMS)
JWK = dpop_header(KEY)["jwk"]


@pytest.fixture
def reader() -> StrictDpopProofs:
    return StrictDpopProofs()


def refusal(reader: StrictDpopProofs, text: str) -> str:
    with pytest.raises(DpopProofRefusedError) as refused:
        reader.read(Secret(text))
    message = str(refused.value)
    assert not any(part in message for part in text.split(".") if len(part) > 20)
    return message


def with_header(key: PartyKey = KEY, **changes: object) -> str:
    return key.jwt(CLAIMS, dpop_header(key, **changes))


def with_jwk(key: PartyKey = KEY, **changes: object) -> str:
    jwk = {name: value for name, value in (dpop_header(key)["jwk"] | changes).items() if value is not None}
    return with_header(key, jwk=jwk)


@pytest.mark.parametrize("algorithm", DPOP_ALGORITHMS)
def test_a_proof_is_read_with_the_thumbprint_of_its_key(reader: StrictDpopProofs, algorithm: str) -> None:
    key = KEYS[algorithm]
    found = reader.read(Secret(key.jwt(CLAIMS, dpop_header(key))))

    members = sorted(dpop_header(key)["jwk"].items())  # RFC 7638 section 3: without spaces, in this order
    canonical = "{" + ",".join(f'"{name}":"{value}"' for name, value in members) + "}"
    assert found.key_sha256 == sha256(canonical.encode()).digest()
    assert (found.token_id, found.method, found.uri) == (CLAIMS["jti"], CLAIMS["htm"], CLAIMS["htu"])
    assert (found.issue_time, found.access_token_sha256, found.nonce) == (NOW, b"h" * 32, "n")


def test_a_proof_may_lack_ath_and_nonce(reader: StrictDpopProofs) -> None:
    found = reader.read(Secret(dpop_proof(KEY, NOW)))

    assert (found.access_token_sha256, found.nonce) == (None, None)


def test_other_claims_and_other_public_members_of_the_key_change_nothing(reader: StrictDpopProofs) -> None:
    known = reader.read(Secret(dpop_proof(KEY, NOW, jti="p1")))
    more: dict[str, object] = {"kid": 7, "use": "sig", "key_ops": ["verify"], "alg": "ES256", "ext": True}
    more |= {"x5c": "no", "x5u": 7, "x5t": [], "n": 7}
    header = dpop_header(KEY, jwk=JWK | more, kid="k", jku="https://evil.example/")

    assert reader.read(Secret(dpop_proof(KEY, NOW, header, jti="p1", iss="reports", exp=1))) == known


@needs_vectors
def test_the_proofs_of_rfc_9449_are_read(reader: StrictDpopProofs) -> None:
    rfc = vector("rfc/rfc9449_dpop.json")

    assert len(rfc["proofs"]) == 3
    for example in rfc["proofs"]:
        found, claims = reader.read(Secret(example["jwt"])), example["payload"]
        assert base64url(found.key_sha256) == rfc["jkt"]
        assert (found.token_id, found.method, found.uri) == (claims["jti"], claims["htm"], claims["htu"])
        assert found.issue_time.timestamp() == claims["iat"]
        if "ath" in claims:
            token = rfc["ath"]["access_token"]
            assert found.access_token_sha256 == sha256(token.encode()).digest()


def without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {n: v for n, v in values.items() if n != name}


@pytest.mark.parametrize(
    "claims",
    [
        *(without(CLAIMS, name) for name in ("jti", "htm", "htu", "iat")),
        *({**CLAIMS, name: 7} for name in ("jti", "htm", "htu", "ath", "nonce")),
        *({**CLAIMS, name: ""} for name in ("jti", "htm", "htu", "ath", "nonce")),
        *({**CLAIMS, name: None} for name in ("jti", "htm", "htu", "iat", "ath", "nonce")),
        *({**CLAIMS, name: [CLAIMS[name]]} for name in ("jti", "htm", "htu", "iat", "ath", "nonce")),
        *({**CLAIMS, "iat": iat} for iat in (True, -1, "1767323045", 2**63, 10**31, -0.5)),
        *(
            {**CLAIMS, "ath": ath}
            for ath in (base64url(b"h" * 31), base64url(b"h" * 33), CLAIMS["ath"] + "=")
        ),
        {**CLAIMS, "jti": "x" * 129},
        {**CLAIMS, "jti": "a\ud800b"},
        TEXT.replace('"iat"', '"iat": 1, "iat"'),
        TEXT.replace('"htu"', '"htu": "https://a.example/", "htu"'),
        *(
            TEXT.replace(str(CLAIMS["iat"]), iat)
            for iat in ("NaN", "Infinity", "-Infinity", "1e999", "1" * 40)
        ),
        TEXT + " {}",
        TEXT.replace("{", '{"deep": ' + "[" * 100 + "]" * 100 + ", ", 1),
        "[" * 2000,
        "[]",
        "null",
        "",
        b"\xff",
        b"\xef\xbb\xbf" + TEXT.encode(),
    ],
    ids=lambda claims: str(claims)[:60],
)
def test_claims_that_are_not_exactly_right_are_refused(reader: StrictDpopProofs, claims: Any) -> None:
    refusal(reader, KEY.jwt(claims, dpop_header(KEY)))


def test_an_iat_may_have_a_fraction(reader: StrictDpopProofs) -> None:
    found = reader.read(Secret(dpop_proof(KEY, NOW, iat=NOW.timestamp() + 0.5)))

    assert (found.issue_time - NOW).total_seconds() == 0.5


@pytest.mark.parametrize("type_", [None, "", "JWT", "at+jwt", "dpop", "jwt+dpop", 7, ["dpop+jwt"]])
def test_a_jwt_of_another_type_is_refused(reader: StrictDpopProofs, type_: object) -> None:
    assert "typ" in refusal(reader, with_header(typ=type_))


@pytest.mark.parametrize("type_", ["dpop+jwt", "DPoP+JWT", "application/dpop+jwt"])
def test_the_type_is_a_media_type(reader: StrictDpopProofs, type_: str) -> None:
    reader.read(Secret(with_header(typ=type_)))


@pytest.mark.parametrize(
    "algorithm", [None, "none", "None", "", "HS256", "es256", "ES512", "ML-DSA-44", "dir", 7, ["ES256"], {}]
)
def test_an_algorithm_that_is_not_accepted_is_refused(reader: StrictDpopProofs, algorithm: object) -> None:
    assert "alg must be" in refusal(reader, with_header(alg=algorithm))


@pytest.mark.parametrize("algorithm", DPOP_ALGORITHMS[1:])
def test_an_algorithm_for_another_kind_of_key_is_refused(reader: StrictDpopProofs, algorithm: str) -> None:
    assert "jwk" in refusal(reader, with_header(alg=algorithm))


def test_a_signature_of_the_other_algorithm_of_rsa_does_not_verify(reader: StrictDpopProofs) -> None:
    refusal(reader, with_header(KEYS["RS256"], alg="PS256"))


def test_the_text_of_the_public_key_is_no_secret_of_an_hmac(reader: StrictDpopProofs) -> None:
    """A verifier that took the algorithm from one place and the key from another could be attacked so."""
    octets = base64url(json.dumps(JWK).encode())

    assert "alg" in refusal(reader, with_header(alg="HS256", jwk={"kty": "oct", "k": octets}))
    assert "private" in refusal(reader, with_header(jwk={"kty": "oct", "k": octets}))


@pytest.mark.parametrize("more", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}])
def test_a_critical_header_is_refused(reader: StrictDpopProofs, more: dict[str, Any]) -> None:
    assert "crit" in refusal(reader, with_header(**more))


@pytest.mark.parametrize(
    "header",
    [
        json.dumps(dpop_header(KEY)).replace('"alg"', '"alg": "none", "alg"'),
        json.dumps(dpop_header(KEY)).replace('"kty"', '"kty": "RSA", "kty"'),
        "[]",
        "",
        b"\xff",
    ],
    ids=["alg twice", "kty twice", "list", "empty", "no UTF-8"],
)
def test_a_header_that_is_not_one_object_is_refused(reader: StrictDpopProofs, header: Any) -> None:
    assert "header" in refusal(reader, KEY.jwt(CLAIMS, header))


@pytest.mark.parametrize("jwk", [None, "", "{}", json.dumps(JWK), 7, [JWK], True], ids=type)
def test_a_proof_without_a_key_is_refused(reader: StrictDpopProofs, jwk: object) -> None:
    assert "jwk must be the public key" in refusal(reader, with_header(jwk=jwk))


@pytest.mark.parametrize("name", ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"])
@pytest.mark.parametrize("value", ["AQ", "", None])
def test_a_private_member_is_refused_whatever_it_holds(
    reader: StrictDpopProofs, name: str, value: object
) -> None:
    assert "private" in refusal(reader, with_header(jwk=JWK | {name: value}))


def test_a_whole_private_key_is_refused(reader: StrictDpopProofs) -> None:
    assert "private" in refusal(reader, with_header(jwk=json.loads(KEY.private_jwk)))
    assert "private" in refusal(reader, KEY.jwt(CLAIMS, dpop_header(KEY, alg="RS256", jwk=roca_jwk())))


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in ("kty", "crv", "x", "y")),
        *({name: 7} for name in ("kty", "crv", "x", "y")),
        {"kty": "RSA"},
        {"kty": "oct"},
        {"kty": ["EC"]},
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"x": JWK["y"]},
        {"x": base64url(bytes(32)), "y": base64url(bytes(32))},
        {"x": JWK["x"] + "="},
        {"x": base64url(bytes(1) + decode_base64url(JWK["x"]))},
        {"x": urlsafe_b64encode(decode_base64url(JWK["x"])).decode()},
        {"use": "enc"},
        {"use": None, "key_ops": ["encrypt"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"key_ops": ["verify", "verify"]},
        {"alg": "ES384"},
        {"alg": 7},
    ],
    ids=",".join,
)
def test_a_key_that_is_not_a_sound_one_for_the_algorithm_is_refused(
    reader: StrictDpopProofs, changes: dict[str, Any]
) -> None:
    assert "jwk" in refusal(reader, with_jwk(**changes))


@pytest.mark.parametrize("numbers", [*WEAK.values(), Numbers(2**4097 - 1), Numbers(ODD, 1)], ids=str)
@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_an_rsa_key_that_is_weak_or_long_is_refused(
    reader: StrictDpopProofs, numbers: Numbers, algorithm: str
) -> None:
    message = f"{encode(dpop_header(KEY, alg=algorithm, jwk=rsa_jwk(numbers)))}.{encode(CLAIMS)}"
    found = refusal(reader, f"{message}.{base64url(bytes(256))}")

    assert "make a new key" in found or "4 KiB" in found


@pytest.mark.parametrize(
    "octets", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xff" * 32]
)
def test_an_ed25519_key_of_small_order_is_refused(reader: StrictDpopProofs, octets: bytes) -> None:
    """With such a key, a signature of zeros is valid for every message."""
    header = dpop_header(KEYS["EdDSA"], jwk={"kty": "OKP", "crv": "Ed25519", "x": base64url(octets)})

    assert "jwk" in refusal(reader, f"{encode(header)}.{encode(CLAIMS)}.{base64url(octets + bytes(32))}")


@pytest.mark.parametrize("algorithm", DPOP_ALGORITHMS)
def test_a_proof_signed_by_another_key_is_refused(reader: StrictDpopProofs, algorithm: str) -> None:
    header = dpop_header(KEYS[algorithm])

    assert "signature" in refusal(reader, PartyKey.make(algorithm).jwt(CLAIMS, header))


@pytest.mark.parametrize("algorithm", DPOP_ALGORITHMS)
def test_a_changed_proof_is_refused(reader: StrictDpopProofs, algorithm: str) -> None:
    key = KEYS[algorithm]
    header, _, signature = key.jwt(CLAIMS, dpop_header(key)).split(".")

    for claims in (CLAIMS | {"htm": "GET"}, CLAIMS | {"jti": "another"}):
        assert "signature" in refusal(reader, f"{header}.{encode(claims)}.{signature}")
    for wrong in ("", "AA", signature[:-4], base64url(bytes(len(decode_base64url(signature))))):
        assert "signature" in refusal(reader, f"{header}.{encode(CLAIMS)}.{wrong}")


def test_only_one_spelling_of_a_proof_is_read(reader: StrictDpopProofs) -> None:
    good = KEY.jwt(CLAIMS, dpop_header(KEY))
    header, claims, signature = good.split(".")

    reader.read(Secret(good))
    for text in (
        f"{good}=",
        f" {good}",
        f"{good}\n",
        f"{good}.",
        f".{good}",
        f"{good}, {good}",
        f"{header}..{signature}",
        f"{header}.{claims}",
        f"{header}.{claims}.{signature[:-1]}{chr(ord(signature[-1]) + 1)}",
        f"{header}.{claims}.{signature[:-1]}é",
        f"{header}.{claims}.\ud800",
        good.replace("_", "/").replace("-", "+") + "=",
        "",
        "..",
    ):
        refusal(reader, text)


def test_a_proof_has_at_most_4_kib(reader: StrictDpopProofs) -> None:
    def proof(filling: int) -> str:
        return KEY.jwt(CLAIMS | {"more": "x" * filling}, dpop_header(KEY))

    longest = next(n for n in range(2000, 3500) if len(proof(n)) in (4094, 4095, 4096))

    reader.read(Secret(proof(longest)))
    assert "4 KiB" in refusal(reader, proof(longest + 3))
