"""The examples in appendix A of RFC 7515 and RFC 7517: valid signatures, and uses that are refused."""

import json
from typing import Any, Final

import pytest

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.issuers import ISSUER_ALGORITHMS, IssuerNames
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import Rejected, RejectionReason
from identity_service.jose import keys
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.assertions import StrictAssertions
from identity_service.jose.jwks import read_key_set
from identity_service.jose.keys import GeneratedKey
from identity_shared.strict import decode_base64url
from tests.unit.jose.conftest import Ring

Json = dict[str, Any]

PAYLOAD: Final = (
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
HMAC: Final = {
    "kty": "oct",
    "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
}
RSA: Final = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0B"
    "m4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5"
    "z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7"
    "aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e": "AQAB",
}
EC: Final = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
EXAMPLES: Final[dict[str, tuple[str, Json, str, str]]] = {
    "A.1": (
        "HS256",
        HMAC,
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    "A.2": (
        "RS256",
        RSA,
        "eyJhbGciOiJSUzI1NiJ9",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9"
        "uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB"
        "_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rq"
        "Vt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    "A.3": (
        "ES256",
        EC,
        "eyJhbGciOiJFUzI1NiJ9",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
}
UNSECURED: Final = f"eyJhbGciOiJub25lIn0.{PAYLOAD}."
"""The example of RFC 7515, A.5, and RFC 7519, section 6.1."""

KEY_SET: Final[Json] = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            "use": "enc",
            "kid": "1",
        },
        {
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE"
            "CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q"
            "vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6"
            "WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB",
            "alg": "RS256",
            "kid": "2011-04-29",
        },
    ]
}
"""The example of RFC 7517, A.1."""
SYMMETRIC: Final[Json] = {
    "keys": [
        {"kty": "oct", "alg": "A128KW", "k": "GawgguFyGrWKav7AX4VKUg"},
        HMAC | {"kid": "HMAC key used in JWS spec Appendix A.1 example"},
    ]
}
"""The example of RFC 7517, A.3."""


@pytest.mark.parametrize(("algorithm", "jwk", "header", "signature"), EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_of_rfc_7515_verifies_with_its_key_alone(
    algorithm: str, jwk: Json, header: str, signature: str
) -> None:
    key = keys.load(json.dumps(jwk), algorithm, private=False)
    message, found = f"{header}.{PAYLOAD}".encode(), decode_base64url(signature)

    assert key.verify(message, found)
    assert not key.verify(message + b"A", found)
    assert not key.verify(message, found[:-1] + bytes([found[-1] ^ 1]))
    for other, stranger, *_ in EXAMPLES.values():
        if other != algorithm:
            assert not keys.load(json.dumps(stranger), other, private=False).verify(message, found)


def test_none_of_them_is_an_access_token_or_an_assertion(generated: dict[str, GeneratedKey]) -> None:
    codec = AccessTokenCodec(Ring((generated["ES256"],)), IssuerNames("joe"))
    texts = [f"{header}.{PAYLOAD}.{signature}" for _, _, header, signature in EXAMPLES.values()]

    for text in [*texts, UNSECURED]:
        answer = codec.read(text)
        assert isinstance(answer, Rejected)
        assert answer.reason is RejectionReason.WRONG_TYPE
        with pytest.raises(CredentialRefusedError):
            StrictAssertions().read(Secret(text))


def test_of_the_set_of_rfc_7517_the_key_that_is_not_for_encryption_is_used() -> None:
    found = read_key_set(json.dumps(KEY_SET).encode(), ISSUER_ALGORITHMS)

    assert {key_id: key.algorithm for key_id, key in found.keys.items()} == {"2011-04-29": "RS256"}
    free = {"keys": [{n: v for n, v in KEY_SET["keys"][0].items() if n != "use"}]}
    assert list(read_key_set(json.dumps(free).encode(), ISSUER_ALGORITHMS).keys) == ["1"]


def test_no_symmetric_key_of_rfc_7517_is_used() -> None:
    assert not read_key_set(json.dumps(SYMMETRIC).encode(), [*ISSUER_ALGORITHMS, "HS256"]).keys
    assert keys.load(json.dumps(SYMMETRIC["keys"][1]), "HS256", private=False).key_id
