"""Encrypted tokens: a key decrypts only the tokens that are encrypted to it (RFC 7516, RFC 8725).

Each attack changes one thing in a token that can be decrypted, and this change must cause the refusal.
"""

import json
import secrets
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, RSAKey

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import base64url
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.tokens import MAX_TOKEN_CHARS, AccessToken
from identity_service.jose import encryption_keys
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.encryption import read_key_id
from identity_service.jose.encryption_keys import (
    ENCRYPTION_ALGORITHMS,
    generate_service_key,
    load_service_key,
    read_encryption_key,
)
from identity_service.jose.keys import GeneratedKey
from identity_shared.strict import decode_base64url
from tests.unit.jose.conftest import ISSUER, Ring, access_token

INSIDE = "header.claims.signature"
KEY = generate_service_key()
OTHER = generate_service_key()
MINE = load_service_key(KEY.private_jwk)
PUBLIC: dict[str, Any] = json.loads(KEY.public_jwk or "")
HEADER = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "kid": KEY.key_id, "typ": "at+jwt", "cty": "JWT"}


def encrypted(to: GeneratedKey = KEY) -> str:
    return read_encryption_key(to.public_jwk or "").encrypt(INSIDE)


def made(content: str = INSIDE, key: Any = None, **changes: Any) -> str:
    """Encrypt with the library alone, which checks less; a header member whose value is None is left out."""
    header = {name: value for name, value in (HEADER | changes).items() if value is not None}
    algorithms = [header["alg"], header["enc"], *([header["zip"]] if "zip" in header else [])]
    registry = jwe.JWERegistry(algorithms=algorithms, strict_check_header=False)
    return jwe.encrypt_compact(header, content, key or ECKey.import_key(PUBLIC), registry=registry)


def with_header(token: str, **changes: Any) -> str:
    """Return the token with these changes of its header."""
    first, *rest = token.split(".")
    header = json.loads(decode_base64url(first)) | changes
    return ".".join([base64url(json.dumps(header).encode()), *rest])


def flipped(token: str, part: int) -> str:
    """Return the token with one bit of this part changed."""
    parts = token.split(".")
    data = bytearray(decode_base64url(parts[part]))
    data[0] ^= 1
    parts[part] = base64url(bytes(data))
    return ".".join(parts)


def test_its_key_opens_a_token() -> None:
    assert MINE.decrypt(encrypted()) == INSIDE


def test_a_token_of_the_same_form_made_by_another_library_call_is_opened() -> None:
    assert MINE.decrypt(made()) == INSIDE  # the control of every attack below that uses `made`


def test_another_key_opens_nothing() -> None:
    assert load_service_key(OTHER.private_jwk).decrypt(encrypted()) is None


def test_another_key_that_goes_by_the_same_id_opens_nothing() -> None:
    renamed = load_service_key(json.dumps(json.loads(OTHER.private_jwk) | {"kid": KEY.key_id}))

    assert renamed.decrypt(encrypted()) is None


def test_a_token_that_names_another_key_is_not_opened() -> None:
    assert MINE.decrypt(made(kid="another")) is None


@pytest.mark.parametrize("part", range(5), ids=["header", "encrypted key", "iv", "ciphertext", "tag"])
def test_a_token_with_one_bit_changed_is_not_opened(part: int) -> None:
    assert MINE.decrypt(flipped(encrypted(), part)) is None


def test_a_header_with_the_same_members_in_other_bytes_is_refused() -> None:
    token = encrypted()
    spaced = with_header(token)

    assert json.loads(decode_base64url(spaced.split(".")[0])) == json.loads(
        decode_base64url(token.split(".")[0])
    )
    assert MINE.decrypt(spaced) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"cty": None},
        {"cty": "jwk+json"},
        {"cty": "at+jwt"},
        {"typ": None},
        {"typ": "JWT"},
        {"typ": "rt+jwt"},
        {"kid": None},
        {"enc": "A128GCM"},
        {"enc": "A256CBC-HS512"},
        {"alg": "ECDH-ES"},
        {"alg": "ECDH-ES+A128KW"},
        {"zip": "DEF"},
        {"apu": "QQ"},
        {"apv": "QQ"},
        {"jku": "https://keys.example/set"},
        {"x5u": "https://keys.example/chain"},
        {"jwk": PUBLIC},
        {"x5c": ["MIIB"]},
    ],
    ids=lambda changes: json.dumps(changes) if PUBLIC not in changes.values() else "jwk",
)
def test_a_token_made_for_the_key_with_another_header_is_not_opened(changes: dict[str, Any]) -> None:
    assert MINE.decrypt(made(**changes)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "dir"},
        {"alg": "RSA1_5"},
        {"alg": "RSA-OAEP"},
        {"alg": "PBES2-HS256+A128KW", "p2s": "QUFBQUFBQUE", "p2c": 2**31},
        {"alg": "A256KW"},
        {"alg": ["ECDH-ES+A256KW"]},
        {"enc": "none"},
        {"crit": ["exp"], "exp": 1},
        {"b64": False},
        {"kid": 7},
        {"kid": ""},
        {"kid": "k" * 257},
        {"epk": None},
        {"epk": "P-256"},
        {"epk": []},
    ],
    ids=json.dumps,
)
def test_a_token_whose_header_asks_for_another_algorithm_is_refused(changes: dict[str, Any]) -> None:
    assert read_key_id(encrypted()) == KEY.key_id
    assert read_key_id(with_header(encrypted(), **changes)) is None  # before any work with a key


@pytest.mark.parametrize("alg", ["dir", "A256KW", "PBES2-HS256+A128KW"])
def test_a_shared_key_derived_from_public_values_opens_nothing(alg: str) -> None:
    public = OctKey.import_key(decode_base64url(PUBLIC["x"]))

    assert MINE.decrypt(made(key=public, alg=alg)) is None


def ephemeral(**changes: Any) -> str:
    """Return a token whose ephemeral key has these members; a member whose value is None is left out."""
    token = encrypted()
    epk = json.loads(decode_base64url(token.split(".")[0]))["epk"] | changes
    return with_header(token, epk={name: value for name, value in epk.items() if value is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"x": base64url(b"\x01" * 31)},
        {"x": base64url(b"\x01" * 33)},
        {"x": 5},
        {"y": None},
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"kty": "OKP", "crv": "X25519", "y": None},
        {"kty": "oct"},
        {"d": base64url(b"\x01" * 32)},
    ],
    ids=json.dumps,
)
def test_an_ephemeral_key_that_has_not_the_form_of_a_point_is_refused(changes: dict[str, Any]) -> None:
    assert read_key_id(ephemeral(**changes)) is None


@pytest.mark.parametrize(
    "changes",
    [{}, {"y": base64url(b"\x01" * 32)}, {"x": base64url(bytes(32)), "y": base64url(bytes(32))}],
    ids=["on the curve", "off the curve", "zero"],
)
def test_the_private_key_never_meets_a_point_off_its_curve(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[ECKey] = []
    real = ECKey.exchange_derive_key

    def noted(mine: ECKey, other: ECKey) -> bytes:
        met.append(other)
        return real(mine, other)

    monkeypatch.setattr(ECKey, "exchange_derive_key", noted)
    token = ephemeral(**changes) if changes else encrypted()
    met.clear()

    assert (MINE.decrypt(token), len(met)) == ((None, 0) if changes else (INSIDE, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + ".",
        lambda text: text.rpartition(".")[0],
        lambda text: text + "=",
        lambda text: text.replace(".", "..", 1),
        lambda text: " " + text,
        lambda text: text[:-1],
        lambda text: text[:-1] + "é",
        lambda text: ".".join([*text.split(".")[:4], text.split(".")[4][:16]]),
        lambda text: ".".join(
            [base64url(b" " * 800 + decode_base64url(text.split(".")[0])), *text.split(".")[1:]]
        ),
        lambda text: "....",
        lambda text: "",
    ],
)
def test_another_spelling_of_a_compact_jwe_is_refused(change: Callable[[str], str]) -> None:
    assert MINE.decrypt(change(encrypted())) is None


def test_a_header_that_names_a_member_twice_is_not_opened() -> None:
    first, *rest = encrypted().split(".")
    twice = decode_base64url(first).replace(b"{", b'{"enc":"A256GCM",', 1)

    assert MINE.decrypt(".".join([base64url(twice), *rest])) is None


@given(parts=st.lists(st.binary(max_size=60), min_size=5, max_size=5))
@settings(max_examples=200)
def test_nothing_that_a_stranger_sends_raises(parts: list[bytes]) -> None:
    first = encrypted().split(".")[0]

    assert MINE.decrypt(".".join(map(base64url, parts))) is None
    assert MINE.decrypt(".".join([first, *map(base64url, parts[1:])])) is None


@given(wrapped=st.binary(min_size=40, max_size=40), content=st.binary(min_size=1, max_size=40))
@settings(max_examples=100)
def test_a_token_of_the_right_form_with_wrong_content_raises_no_exception(
    wrapped: bytes, content: bytes
) -> None:
    first = encrypted().split(".")[0]
    rest = (wrapped, secrets.token_bytes(12), content, secrets.token_bytes(16))

    assert MINE.decrypt(".".join([first, *map(base64url, rest)])) is None


# With the claims inside


@pytest.fixture(scope="module")
def codec(generated: dict[str, GeneratedKey]) -> AccessTokenCodec:
    return AccessTokenCodec(Ring(tuple(generated.values()), KEY), IssuerNames(ISSUER))


def outcome(codec: AccessTokenCodec, text: str) -> str:
    found = codec.read(text)
    return "good" if isinstance(found, AccessToken) else f"{found.reason}: {found.detail}"


CANNOT = "UNDECRYPTABLE: the token is encrypted, and this service cannot open it"


def test_an_encrypted_token_has_the_claims_of_the_signed_one(codec: AccessTokenCodec) -> None:
    token = access_token(claims={"tenant": "blue"})
    text = codec.sign(token, read_encryption_key(KEY.public_jwk or ""))

    assert text.count(".") == 4
    assert codec.read(text) == codec.read(MINE.decrypt(text) or "")
    assert outcome(codec, text) == "good"


def test_a_signed_token_is_read_as_ever(codec: AccessTokenCodec) -> None:
    assert outcome(codec, codec.sign(access_token())) == "good"


def test_every_token_that_cannot_be_decrypted_gets_the_same_answer(codec: AccessTokenCodec) -> None:
    text = codec.sign(access_token(), read_encryption_key(KEY.public_jwk or ""))
    to_another = codec.sign(access_token(), read_encryption_key(OTHER.public_jwk or ""))
    tried = [flipped(text, part) for part in range(5)]
    tried += [to_another, made(zip="DEF"), made(cty=None), ephemeral(x=5), "a.b.c.d.e", "...."]

    assert outcome(codec, text) == "good"
    assert {outcome(codec, each) for each in tried} == {CANNOT}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "UNDECRYPTABLE"),
        ("no token", "MALFORMED"),
        ('{"iss":"https://issuer.example"}', "MALFORMED"),
        ("a.b.c.d.e", "MALFORMED"),
        ("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0Iiwia2lkIjoiayJ9.e30.", "ALGORITHM_NOT_ALLOWED"),
        ("é", "UNDECRYPTABLE"),
    ],
)
def test_encrypting_makes_nothing_good_that_is_not_signed(
    codec: AccessTokenCodec, content: str, reason: str
) -> None:
    assert outcome(codec, made(content)).startswith(reason)


def test_a_token_that_is_encrypted_twice_is_malformed(codec: AccessTokenCodec) -> None:
    twice = made(codec.sign(access_token(), read_encryption_key(KEY.public_jwk or "")))

    assert outcome(codec, twice).startswith("MALFORMED")


def test_a_token_is_refused_if_encrypting_makes_it_too_long(codec: AccessTokenCodec) -> None:
    long = access_token(claims={"x": "x" * 4200})
    assert len(codec.sign(long)) < MAX_TOKEN_CHARS

    with pytest.raises(InvalidRequestError, match="claims"):
        codec.sign(long, read_encryption_key(KEY.public_jwk or ""))


def test_a_token_that_is_too_long_is_not_even_looked_at(codec: AccessTokenCodec) -> None:
    assert outcome(codec, made("x" * MAX_TOKEN_CHARS)).startswith("MALFORMED: the token is longer")


def test_no_key_shows_itself(codec: AccessTokenCodec) -> None:
    secret = json.loads(KEY.private_jwk)["d"]

    assert secret not in repr(MINE)
    assert secret not in repr(KEY)
    assert secret not in (KEY.public_jwk or "")


# Registered keys

SMALL_RSA = {"n": base64url(secrets.token_bytes(127) + b"\x01"), "e": "AQAB", "kty": "RSA"}


def registered(key: Any, **changes: Any) -> str:
    said = key.as_dict(private=False) | {"kid": "k1"} | changes
    return json.dumps({name: value for name, value in said.items() if value is not None})


@cache
def rsa_key() -> Any:
    return RSAKey.generate_key(2048)


def curve(name: str) -> Any:
    return ECKey.generate_key(name)


@pytest.mark.parametrize("alg", ["ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A256KW"])
@pytest.mark.parametrize("name", ["P-256", "P-384", "P-521"])
def test_tokens_are_encrypted_to_keys_on_curves(alg: str, name: str) -> None:
    key = curve(name)
    text = read_encryption_key(registered(key, alg=alg)).encrypt(INSIDE)

    assert jwe.decrypt_compact(text, key, algorithms=[alg, "A256GCM"]).plaintext == INSIDE.encode()


def test_tokens_are_encrypted_to_rsa_keys() -> None:
    text = read_encryption_key(registered(rsa_key(), alg="RSA-OAEP-256")).encrypt(INSIDE)
    opened = jwe.decrypt_compact(text, rsa_key(), algorithms=["RSA-OAEP-256", "A256GCM"])

    assert opened.plaintext == INSIDE.encode()
    assert opened.protected == HEADER | {"alg": "RSA-OAEP-256", "kid": "k1"}


@pytest.mark.parametrize(
    "alg", ["RSA1_5", "RSA-OAEP", "dir", "PBES2-HS512+A256KW", "A256KW", "none", 5, None]
)
def test_a_key_for_an_algorithm_that_is_not_accepted_is_refused(alg: object) -> None:
    with pytest.raises(ValueError, match=r"must have an `alg`"):
        read_encryption_key(registered(rsa_key(), alg=alg))


@pytest.mark.parametrize(
    ("alg", "changes"),
    [
        ("ECDH-ES", {"use": "enc"}),
        ("ECDH-ES", {"key_ops": []}),
        ("ECDH-ES", {"key_ops": ["deriveKey"]}),
        ("RSA-OAEP-256", {"key_ops": ["wrapKey"]}),
        ("RSA-OAEP-256", {"key_ops": ["encrypt"], "use": "enc"}),
    ],
)
def test_a_key_that_allows_it_is_accepted(alg: str, changes: dict[str, Any]) -> None:
    key = rsa_key() if alg.startswith("RSA") else curve("P-256")

    assert read_encryption_key(registered(key, alg=alg, **changes)).algorithm == alg


@pytest.mark.parametrize(
    ("alg", "changes"),
    [
        ("ECDH-ES", {"use": "sig"}),
        ("ECDH-ES", {"key_ops": ["sign"]}),
        ("ECDH-ES", {"key_ops": "deriveKey"}),
        ("RSA-OAEP-256", {"use": "sig"}),
        ("RSA-OAEP-256", {"key_ops": []}),
        ("RSA-OAEP-256", {"key_ops": ["verify"]}),
        ("RSA-OAEP-256", {"key_ops": ["decrypt"]}),
    ],
)
def test_a_key_that_forbids_it_is_refused(alg: str, changes: dict[str, Any]) -> None:
    key = rsa_key() if alg.startswith("RSA") else curve("P-256")

    with pytest.raises(ValueError, match="must be for encryption"):
        read_encryption_key(registered(key, alg=alg, **changes))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no json", "JSON object"),
        ("[]", "JSON object"),
        ('{"kty":"EC","kty":"EC"}', "duplicate"),
        ("x" * 4097, "4 KiB"),
        (KEY.private_jwk, "holds a private"),
        (json.dumps({"kty": "oct", "k": "A" * 43, "kid": "k", "alg": "A256KW"}), "holds a private"),
        (json.dumps(PUBLIC | {"kid": None}), "`kid`"),
        (json.dumps(PUBLIC | {"kid": "é"}), "`kid`"),
        (json.dumps(PUBLIC | {"kid": "k" * 129}), "`kid`"),
        (json.dumps(PUBLIC | {"y": PUBLIC["x"]}), "well-formed"),
        (json.dumps(PUBLIC | {"x": 5}), "well-formed"),
        (json.dumps(PUBLIC | {"crv": "secp256k1"}), "must be a key for ECDH-ES"),
        (json.dumps(PUBLIC | {"alg": "RSA-OAEP-256"}), "must be a key for RSA-OAEP-256"),
        (json.dumps(SMALL_RSA | {"kid": "k", "alg": "RSA-OAEP-256"}), "2048 to 4096 bits"),
        (json.dumps(SMALL_RSA | {"n": "_" * 800, "kid": "k", "alg": "RSA-OAEP-256"}), "2048 to 4096 bits"),
        (
            json.dumps({"kty": "OKP", "crv": "X25519", "x": "A" * 43, "kid": "k", "alg": "ECDH-ES"}),
            "encrypt to",
        ),
        (
            json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": "k", "alg": "ECDH-ES"}),
            "for ECDH-ES",
        ),
    ],
)
def test_an_unusable_encryption_key_is_refused_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        read_encryption_key(text)

    assert "d" not in PUBLIC
    assert str(PUBLIC["x"]) not in str(error.value)


def test_every_algorithm_of_audiences_is_one_of_the_four() -> None:
    assert set(ENCRYPTION_ALGORITHMS) == {"RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A256KW"}


def test_the_key_of_this_service_is_named_by_its_thumbprint() -> None:
    members = {name: PUBLIC[name] for name in ("crv", "kty", "x", "y")}

    assert ECKey.import_key(members).thumbprint() == KEY.key_id == PUBLIC["kid"]


@pytest.mark.parametrize(
    "changes", [{"d": None}, {"alg": "ES256"}, {"crv": "P-384"}, {"y": "AA"}, {"kty": "oct"}], ids=json.dumps
)
def test_a_private_key_of_this_service_must_be_one(changes: dict[str, Any]) -> None:
    members = json.loads(KEY.private_jwk) | changes
    text = json.dumps({name: value for name, value in members.items() if value is not None})

    with pytest.raises(ValueError, match="key"):
        encryption_keys.load_service_key(text)
