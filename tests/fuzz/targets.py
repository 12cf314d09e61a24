"""Fuzz targets: parsers of input from strangers, each of which takes any bytes and checks its promises.

They promise to raise only declared exceptions, and to accept only valid input. `make fuzz` searches for new
inputs, and `test_corpus.py` tries the known ones.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote_plus, urlencode

from joserfc import jwe
from joserfc.jwk import ECKey

from identity_client import DecryptionKey, NotOpenableError
from identity_client import access_tokens as local_tokens
from identity_client.verifying_keys import VerifyingKey, open_key
from identity_service.domain.credential_errors import (
    CredentialRefusedError,
    DpopProofRefusedError,
    RefreshTokenInvalidError,
)
from identity_service.domain.dpop import normalised_uri
from identity_service.domain.errors import IdentityError
from identity_service.domain.ids import KeyId, Link, PrincipalId, SessionId, base64url
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.log import NEVER_RAISED, Generation
from identity_service.domain.secret import (
    KEY_ID_BYTES,
    RefreshToken,
    Secret,
    derive_refresh_token,
    read_refresh_token,
)
from identity_service.domain.tokens import AccessToken, Actor, Rejected
from identity_service.http_api.oauth.clients import parse_basic
from identity_service.http_api.oauth.errors import OAuthError
from identity_service.http_api.oauth.forms import parse_form
from identity_service.jose import encryption_keys, keys
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.assertions import StrictAssertions, type_of
from identity_service.jose.dpop import StrictDpopProofs
from identity_service.jose.public_keys import StrictKeyChecker
from identity_shared.strict import decode_base64url, parse_object
from tests.high_s import twin
from tests.unit.jose.conftest import ISSUER, Ring, access_token
from tests.weak_keys import ODD, Numbers, rsa_jwk

_SIGNING: Final = keys.generate("ES256")
_ENCRYPTING: Final = encryption_keys.generate_service_key()
_CODEC: Final = AccessTokenCodec(Ring((_SIGNING,), _ENCRYPTING), IssuerNames(ISSUER))
_KEY: Final = keys.load(_SIGNING.private_jwk, "ES256", private=True)
_AUDIENCE_KEY: Final = DecryptionKey(ECKey.generate_key("P-256").as_dict(private=True), key_id="api")
_LOCAL_KEY: Final = open_key(_SIGNING.public_jwk or "", "ES256")
_LOCAL_KEYS: Final[Mapping[str, VerifyingKey]] = (
    {_SIGNING.key_id: _LOCAL_KEY} if _LOCAL_KEY is not None else {}
)
_ASSERTIONS: Final = StrictAssertions()
_PROOFS: Final = StrictDpopProofs()
_REFRESH_KEY: Final = bytes(range(32))
_REFRESH_TOKEN: Final = derive_refresh_token(
    _REFRESH_KEY,
    RefreshToken(
        key_id=KeyId(base64url(bytes(KEY_ID_BYTES))),
        session_id=SessionId(base64url(bytes(16))),
        number=7,
    ),
)
_TOKEN: Final = _CODEC.sign(access_token(claims={"tenant": "blue"}))
_ENCRYPTED: Final = encryption_keys.read_encryption_key(_ENCRYPTING.public_jwk or "").encrypt(_TOKEN)
_TO_AUDIENCE: Final = encryption_keys.read_encryption_key(_AUDIENCE_KEY.public_jwk()).encrypt(_TOKEN)


@dataclass(frozen=True, slots=True)
class Target:
    """A parser of input that any stranger can send, with valid inputs for it."""

    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    """Valid inputs, which the fuzzer changes into others."""


def _access_token(data: bytes) -> None:
    """Check that only the signed token, its other ECDSA form and its encrypted form are accepted."""
    text = data.decode("latin-1")
    if not isinstance(_CODEC.read(text), Rejected):
        assert text in (_TOKEN, twin(_TOKEN), _ENCRYPTED), "a forged token was accepted"


def _read_locally(data: bytes) -> None:
    """Check that the local verifier accepts the same tokens as the service, with the same claims."""
    for text in (data.decode("latin-1"), _signed(data)):
        found = _CODEC.read(text)
        try:
            local = local_tokens.read(text, _LOCAL_KEYS, frozenset({ISSUER}))
        except local_tokens.RejectedError:
            # Tokens that are encrypted to the service only the service opens.
            assert isinstance(found, Rejected) or text.count(".") == 4, "the service accepts it"
        else:
            assert isinstance(found, AccessToken), "the service refuses it"
            assert _facts(local) == _service_facts(found), "they understand it differently"


def _facts(token: local_tokens.SignedToken) -> tuple[object, ...]:
    says = token.claims
    ids = (says.issuer, says.subject, says.client_id, says.token_id, says.session_id or None, token.key_id)
    actors = [(actor.subject, actor.client_id or None) for actor in says.actors]
    valid = [datetime.fromtimestamp(time, UTC) for time in (token.valid_from, token.valid_until)]
    times = (says.issue_time, says.expire_time, says.auth_time, *valid)
    generations = {principal: str(g) for principal, g in token.generations.items()}
    bound = (says.certificate_sha256 or None, says.dpop_key_sha256 or None)
    return (
        ids,
        says.audiences,
        says.scopes,
        actors,
        times,
        frozenset(token.principals),
        generations,
        bound,
        says.claims,
    )


def _service_facts(token: AccessToken) -> tuple[object, ...]:
    ids = (token.issuer, token.subject, token.client_id, token.token_id, token.session_id, token.key_id)
    actors = [(actor.subject, actor.client_id) for actor in token.actors]
    begin = max(token.issue_time, token.not_before or token.issue_time)
    times = (token.issue_time, token.expire_time, token.auth_time, begin, token.expire_time)
    generations = {principal: str((g.number, g.link)) for principal, g in token.generations.items()}
    bound = (token.certificate_sha256, token.key_sha256)
    return (
        ids,
        token.audiences,
        token.scopes,
        actors,
        times,
        token.principals,
        generations,
        bound,
        token.claims,
    )


def _signed(data: bytes) -> str:
    """Read a token with arbitrary header and claims (`header 0x00 claims`), signed with a valid key.

    In the header, `@kid` stands for the id of the key, which is different in every process.
    """
    header, _, claims = data.replace(b"@kid", _SIGNING.key_id.encode()).partition(b"\0")
    message = f"{base64url(header)}.{base64url(claims)}"
    return f"{message}.{base64url(_KEY.sign(message.encode()))}"


def _signed_claims(data: bytes) -> None:
    """Check that a token which is accepted has the same meaning when it is written again."""
    found = _CODEC.read(_signed(data))
    if isinstance(found, AccessToken):
        with suppress(IdentityError):  # written again it may be longer than 8 KiB
            again = _CODEC.read(_CODEC.sign(found))
            assert isinstance(again, AccessToken)
            assert again == _in_whole_seconds(found), "it does not say the same twice"


def _in_whole_seconds(token: AccessToken) -> AccessToken:
    """Return the token with its times in whole seconds, as this service writes them."""
    names = ("issue_time", "expire_time", "not_before", "auth_time")
    times = {name: time for name in names if (time := getattr(token, name)) is not None}
    return replace(token, **{name: time.replace(microsecond=0) for name, time in times.items()})


def _encrypted_content(data: bytes) -> None:
    """Decrypt arbitrary content: every client that has the service's public key can encrypt to it."""
    key = ECKey.import_key(json.loads(_ENCRYPTING.public_jwk or ""))
    header = {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256GCM",
        "kid": _ENCRYPTING.key_id,
        "typ": "at+jwt",
        "cty": "JWT",
    }
    text = jwe.encrypt_compact(header, data, key, algorithms=["ECDH-ES+A256KW", "A256GCM"])
    _access_token_inside(data, text)


def _access_token_inside(data: bytes, text: str) -> None:
    if not isinstance(_CODEC.read(text), Rejected):
        assert data.decode("latin-1") in (_TOKEN, twin(_TOKEN)), "a forged token was accepted"


def _to_an_audience(data: bytes) -> None:
    text = data.decode("latin-1")
    with suppress(NotOpenableError):
        assert (_AUDIENCE_KEY.decrypt(text), text) == (_TOKEN, _TO_AUDIENCE), "a changed token was opened"


def _oauth_form(data: bytes) -> None:
    """Check that a form which is accepted has the same meaning when it is written in the standard way."""
    with suppress(OAuthError):
        read = {name: values for name, values in parse_form(data).values.items() if values}
        assert parse_form(urlencode(read, doseq=True).encode()).values == read


def _basic_header(data: bytes) -> None:
    """Check that a header Authorization authenticates a client or is refused."""
    with suppress(ValueError):
        client_id, secret = parse_basic(data.decode("latin-1"))
        encoded = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}".encode()
        assert parse_basic(f"Basic {b64encode(encoded).decode()}") == (client_id, secret)


def _refresh_token(data: bytes) -> None:
    text = data.decode("latin-1")
    with suppress(RefreshTokenInvalidError):
        read_refresh_token(text, lambda _: _REFRESH_KEY)
        assert text == _REFRESH_TOKEN, "a forged refresh token was accepted"


def _assertion(data: bytes) -> None:
    """Check that an assertion has one spelling, and that a refusal repeats no part of it.

    It is read before the client is authenticated.
    """
    text = data.decode("latin-1")
    type_ = type_of(Secret(text))
    try:
        found = _ASSERTIONS.read(Secret(text))
    except CredentialRefusedError as error:
        _is_silent(error, *text.split("."))
    else:
        assert f"{found.message.decode()}.{base64url(found.signature)}" == text
        assert type_ == found.assertion.type, "the rules were chosen by another type"


def _is_silent(error: Exception, *secrets: str) -> None:
    assert not any(text in str(error) for text in secrets if len(text) > 40), "the refusal says what it read"


def _signed_assertion(data: bytes) -> None:
    _assertion(_signed(data).encode())


def _proof(data: bytes) -> None:
    """Check a DPoP proof. Clients make their keys themselves, so strangers can send valid proofs."""
    text = data.decode("latin-1")
    try:
        found = _PROOFS.read(Secret(text))
    except DpopProofRefusedError as error:
        _is_silent(error, *text.split("."))
    else:
        assert len(found.key_sha256) == 32
        header, claims, signature = map(decode_base64url, text.split("."))
        assert ".".join(map(base64url, (header, claims, signature))) == text, "two spellings"
        assert parse_object(header)["jwk"].keys().isdisjoint({"d", "k", "p", "q", "priv"})
        assert parse_object(claims)["jti"] == found.token_id


def _signed_proof(data: bytes) -> None:
    """Check a signed DPoP proof; `@jwk` stands for its key, which is different in every process."""
    _proof(_signed(data.replace(b"@jwk", _PROOF_KEY)).encode())


def _uri(data: bytes) -> None:
    with suppress(ValueError):
        normal = normalised_uri(data.decode("latin-1"))
        assert normalised_uri(normal) == normal


def _registered_key(data: bytes) -> None:
    """Check a public key as an administrator registers it, as a JWK or in PEM."""
    text = data.decode("latin-1")
    checker = StrictKeyChecker()
    for check in (
        checker.check_key,
        checker.check_encryption_key,
        lambda jwk: checker.check_key_set(jwk, ["ES256", "RS256"]),
    ):
        try:
            check(text)
        except ValueError as error:
            _is_silent(error, text)


def _strict_json(data: bytes) -> None:
    try:
        found = parse_object(data)
    except ValueError:
        return
    assert found == json.loads(data)
    assert parse_object(json.dumps(found, ensure_ascii=False).encode()) == found


def _strict_base64url(data: bytes) -> None:
    text = data.decode("latin-1")
    with suppress(ValueError):
        assert base64url(decode_base64url(text)) == text, "two spellings"


def _parts(token: str) -> bytes:
    header, claims, _ = token.split(".")
    read = decode_base64url(header) + b"\0" + decode_base64url(claims)
    return read.replace(_SIGNING.key_id.encode(), b"@kid")


def _key(kind: str) -> bytes:
    return (keys.generate(kind).public_jwk or "").encode()


_ACTOR: Final = Actor(subject=PrincipalId("a"), client_id=PrincipalId("c"))
_RAISED: Final = Generation(number=3, link=Link("x"))
_PARTS: Final = _parts(
    _CODEC.sign(
        access_token(
            session_id=SessionId("s1"),
            auth_time=datetime(2026, 1, 1, tzinfo=UTC),
            not_before=datetime(2026, 1, 2, tzinfo=UTC),
            actors=(
                Actor(subject=PrincipalId("a"), client_id=PrincipalId("c")),
                Actor(subject=PrincipalId("b")),
            ),
            generations={
                PrincipalId("*"): Generation(number=3, link=Link("x")),
                PrincipalId("a"): NEVER_RAISED,
            },
            may_act=Actor(subject=PrincipalId("d"), client_id=PrincipalId("e")),
            certificate_sha256=b"c" * 32,
            key_sha256=b"k" * 32,
        )
    )
)
"""The parts of a token that has every claim."""

_ASSERTION_SEED: Final = (
    b'{"alg":"ES256","kid":"a"}\0'
    + json.dumps(
        {
            "iss": "reports",
            "sub": "reports",
            "aud": ISSUER,
            "exp": 1_800_000_000,
            "iat": 1_700_000_000,
            "jti": "j",
        }
    ).encode()
)

_PROOF_KEY: Final = json.dumps(
    {n: v for n, v in json.loads(_SIGNING.public_jwk or "").items() if n in ("kty", "crv", "x", "y")}
).encode()
_PROOF_SEED: Final = (
    b'{"typ":"dpop+jwt","alg":"ES256","jwk":@jwk}\0'
    + json.dumps(
        {
            "jti": "j",
            "htm": "POST",
            "htu": f"{ISSUER}/oauth2/token",
            "iat": 1_700_000_000,
            "ath": base64url(bytes(32)),
            "nonce": "n",
        }
    ).encode()
)

TARGETS: Final[Mapping[str, Target]] = {
    "access_token": Target(_access_token, [_TOKEN.encode(), twin(_TOKEN).encode(), _ENCRYPTED.encode()]),
    "read_locally": Target(_read_locally, [_TOKEN.encode(), twin(_TOKEN).encode(), _parts(_TOKEN), _PARTS]),
    "signed_claims": Target(_signed_claims, [_parts(_TOKEN)]),
    "encrypted_content": Target(_encrypted_content, [_TOKEN.encode()]),
    "to_an_audience": Target(_to_an_audience, [_TO_AUDIENCE.encode()]),
    "refresh_token": Target(_refresh_token, [_REFRESH_TOKEN.encode()]),
    "assertion": Target(_assertion, [_signed(_ASSERTION_SEED).encode()]),
    "signed_assertion": Target(_signed_assertion, [_ASSERTION_SEED]),
    "proof": Target(_proof, [_signed(_PROOF_SEED.replace(b"@jwk", _PROOF_KEY)).encode()]),
    "signed_proof": Target(_signed_proof, [_PROOF_SEED]),
    "uri": Target(
        _uri, [b"HTTPS://A.example:0443/a/%2e%2E/%7e%c3?q#f", b"http://[2001:DB8::1]:80/./a//b/.."]
    ),
    "registered_key": Target(
        _registered_key,
        [
            _key("ES256"),
            _key("EdDSA"),
            json.dumps(rsa_jwk(Numbers(ODD), alg="RS256")).encode(),
            _AUDIENCE_KEY.public_jwk().encode(),
        ],
    ),
    "oauth_form": Target(_oauth_form, [b"scope=a+b&audience=x&audience=%C3%A9&token=", b"a=b&&c"]),
    "basic_header": Target(_basic_header, [b"Basic cmVwb3J0czpz", b"basic dGVhbSUzQWE6cyUyQg=="]),
    "strict_json": Target(_strict_json, [b'{"a":[1,2.5,null,true,{"b":"\\u00e9"}]}']),
    "strict_base64url": Target(_strict_base64url, [b"AQ", b"AQI", b"AQID", b"-_-_"]),
}
