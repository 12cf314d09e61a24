"""The examples of the RFCs, read by the code that reads the service's tokens and keys.

They are files beside the checkout, in `../shared/vectors`, or where IDENTITY_VECTORS says. Without them the
tests are skipped.
"""

import json
from typing import Any, Final

import pytest

from identity_service.domain.errors import IdentityError
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import AccessToken, Rejected
from identity_service.jose import keys
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.assertions import StrictAssertions
from identity_service.jose.keys import GeneratedKey
from identity_shared.strict import decode_base64url
from tests.unit.jose.conftest import ISSUER, Ring
from tests.unit.jose.forging import Forge
from tests.unit.jose.vectors import VECTORS, needs_vectors, vector

pytestmark = needs_vectors

SIGNED: Final = {
    "RFC 7520 4.1": ("jose-cookbook/jws/4_1.rsa_v15_signature.json", "RS256"),
    "RFC 7520 4.4": ("jose-cookbook/jws/4_4.hmac-sha2_integrity_protection.json", "HS256"),
    "RFC 8037 A.4": ("jose-cookbook/curve25519/jws.json", "EdDSA"),
}
NOT_HERE: Final = {
    "PS384": "jose-cookbook/jws/4_2.rsa-pss_signature.json",
    "ES512": "jose-cookbook/jws/4_3.ecdsa_signature.json",
}


def compact(found: Any) -> tuple[bytes, bytes]:
    """Return the signed bytes and the signature of an example."""
    signed, _, signature = found["output"]["compact"].rpartition(".")
    return signed.encode(), decode_base64url(signature)


@pytest.mark.parametrize(("path", "algorithm"), SIGNED.values(), ids=SIGNED)
def test_an_example_verifies_and_one_changed_in_a_bit_does_not(path: str, algorithm: str) -> None:
    found = vector(path)
    key = keys.load(json.dumps(found["input"]["key"]), algorithm, private=False)
    signed, signature = compact(found)
    changed = bytes([signature[0] ^ 1]) + signature[1:]

    assert key.verify(signed, signature)
    assert not key.verify(signed + b"A", signature)
    assert not key.verify(signed, changed)


@pytest.mark.parametrize(("path", "algorithm"), SIGNED.values(), ids=SIGNED)
def test_signing_with_the_key_of_an_example_gives_its_signature(path: str, algorithm: str) -> None:
    found = vector(path)
    signed, signature = compact(found)

    assert keys.load(json.dumps(found["input"]["key"]), algorithm, private=True).sign(signed) == signature


@pytest.mark.parametrize(("algorithm", "path"), NOT_HERE.items(), ids=NOT_HERE)
def test_an_example_of_an_algorithm_that_is_not_offered_is_refused(algorithm: str, path: str) -> None:
    key = json.dumps(vector(path)["input"]["key"])

    with pytest.raises(IdentityError, match=algorithm):
        keys.load(key, algorithm, private=False)
    with pytest.raises(ValueError, match="not one for"):
        keys.load(key, "EdDSA", private=False)


def test_the_keys_of_rfc_7520_are_read_for_their_use() -> None:
    folder = "jose-cookbook/jwk"
    rsa, private = vector(f"{folder}/3_3.rsa_public_key.json"), vector(f"{folder}/3_4.rsa_private_key.json")

    for algorithm in ("RS256", "PS256"):
        signature = keys.load(json.dumps(private), algorithm, private=True).sign(b"message")
        assert keys.load(json.dumps(rsa), algorithm, private=False).verify(b"message", signature)
    with pytest.raises(ValueError, match="no private part"):
        keys.load(json.dumps(rsa), "RS256", private=True)
    mac = json.dumps(vector(f"{folder}/3_5.symmetric_key_mac_computation.json"))
    assert keys.load(mac, "HS256", private=False).algorithm == "HS256"
    encryption = json.dumps(vector(f"{folder}/3_6.symmetric_key_encryption.json"))
    with pytest.raises(ValueError, match="another algorithm"):
        keys.load(encryption, "HS256", private=False)
    p521 = json.dumps(vector(f"{folder}/3_1.ec_public_key.json"))
    with pytest.raises(ValueError, match="not one for"):
        keys.load(p521, "ES256", private=False)


def test_the_thumbprint_of_rfc_8037() -> None:
    found = vector("rfc/rfc8037_ed25519.json")
    public = {name: value for name, value in found["jwk"].items() if name != "d"}

    assert keys.thumbprint(public) == found["thumbprint_sha256"]


def foreign_tokens() -> dict[str, str]:
    """Yield well-formed tokens of other parties, with the section that has them."""
    jwts = {case["id"]: case["jwt"] for case in vector("rfc/rfc7516_7519_9068.json")["rfc7519"]}
    signed = {name: vector(path)["output"]["compact"] for name, (path, _) in SIGNED.items()}
    unencoded = vector("jose-cookbook/rfc7797/hmac-sha2_b64_false.json")["output"]["compact"]
    nested = vector("jose-cookbook/6.nesting_signatures_and_encryption.json")
    outputs = {f"RFC 7520 6: {i}": text for i, text in enumerate(compacts(nested))}
    return jwts | signed | outputs | json_forms() | {"RFC 7797": unencoded}


def json_forms() -> dict[str, str]:
    """Yield the JWS that are not compact: detached, several signatures, unprotected headers."""
    files = sorted((VECTORS / "jose-cookbook/jws").glob("*.json"))
    return {
        f"{file.stem} {form}": text if isinstance(text, str) else json.dumps(text)
        for file in files
        for form, text in json.loads(file.read_text(encoding="utf-8"))["output"].items()
    }


def compacts(found: Any) -> list[str]:
    """Yield every compact form in an example."""
    if isinstance(found, dict):
        here = [found["compact"]] if "compact" in found else []
        return here + [text for value in found.values() for text in compacts(value)]
    return [text for value in found for text in compacts(value)] if isinstance(found, list) else []


def test_no_example_is_taken_for_an_access_token_or_an_assertion(generated: dict[str, GeneratedKey]) -> None:
    """Among the examples are `none`, RSA1_5, a nested token and `b64` false."""
    codec = AccessTokenCodec(Ring((generated["ES256"],)), IssuerNames(ISSUER))
    found = foreign_tokens()
    assert len(found) >= 25

    for name, text in found.items():
        assert isinstance(codec.read(text), Rejected), name
        with pytest.raises(IdentityError):
            StrictAssertions().read(Secret(text))


def test_the_example_of_rfc_9068_is_an_access_token_once_it_is_signed_and_of_this_issuer(
    generated: dict[str, GeneratedKey],
) -> None:
    """The example's date is a text; it is refused, since a NumericDate is a number (RFC 7519, section 2)."""
    example = vector("rfc/rfc7516_7519_9068.json")["rfc9068_fig2"]
    forge = Forge(generated)
    codec = AccessTokenCodec(Ring((generated["ES256"],)), IssuerNames(example["claims"]["iss"]))
    header = example["header"] | {"alg": "ES256", "kid": forge.header["kid"]}
    claims = example["claims"]

    read = codec.read(forge.sign(header, claims))

    assert isinstance(read, AccessToken)
    assert (read.subject, read.audiences) == ("5ba552d67", ("https://rs.example.com/",))
    assert isinstance(codec.read(forge.sign(header, claims | {"exp": str(claims["exp"])})), Rejected)
    assert isinstance(codec.read(forge.sign(header | {"typ": "JWT"}, claims)), Rejected)
