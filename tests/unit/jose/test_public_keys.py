"""Public keys that clients register: which are accepted, and that no error repeats a part of the key."""

import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.jose.keys import GeneratedKey, generate
from identity_service.jose.public_keys import StrictKeyChecker
from tests.weak_keys import ODD, Numbers, rsa_jwk

checker = StrictKeyChecker()


@cache
def key(algorithm: str) -> GeneratedKey:
    return generate(algorithm)


def public(algorithm: str = "ES256", **changes: Any) -> dict[str, Any]:
    jwk: dict[str, Any] = json.loads(key(algorithm).public_jwk or "")
    return {name: value for name, value in (jwk | changes).items() if value is not None}


def short_rsa() -> dict[str, Any]:
    key = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505  # too short, which is the point
    jwk: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(key))
    del jwk["key_ops"]
    return jwk | {"kid": "k", "alg": "RS256"}


@pytest.mark.parametrize("algorithm", ISSUER_ALGORITHMS)
def test_a_public_key_of_each_algorithm_is_known_by_its_id(algorithm: str) -> None:
    assert checker.check_key(json.dumps(public(algorithm))) == key(algorithm).key_id
    checker.check_key_set(json.dumps({"keys": [public(algorithm)]}), [algorithm])


@pytest.mark.parametrize(
    "jwk",
    [
        public(kid=None),
        public(kid=""),
        public(kid=7),
        public(kid="k" * 129),
        public(alg=None),
        public(alg="none"),
        public(alg="HS256"),
        public(alg="ES384"),
        public(alg="RS256"),
        public(use="enc"),
        public(key_ops=["sign"]),
        public(x="AAAA"),
        public(kty="RSA"),
        rsa_jwk(Numbers(ODD), alg="RS256", e="AA"),
        short_rsa(),
        {},
    ],
)
def test_a_key_that_proves_nothing_is_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|the key"):
        checker.check_key(json.dumps(jwk))


@pytest.mark.parametrize("text", ["", "x", "[]", "null", '"{}"', '{"kid":"a","kid":"b"}', "{" * 50, "ü"])
def test_a_text_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a JSON object"):
        checker.check_key(text)
    with pytest.raises(ValueError, match="must"):
        checker.check_key_set(text, ISSUER_ALGORITHMS)


@pytest.mark.parametrize("algorithm", [*ISSUER_ALGORITHMS, "HS256"])
def test_a_private_key_is_refused_and_not_repeated(algorithm: str) -> None:
    text = key(algorithm).private_jwk
    secrets = [value for name, value in json.loads(text).items() if name in ("d", "k", "p", "q")]

    for check in (
        lambda: checker.check_key(text),
        lambda: checker.check_key_set(json.dumps({"keys": [public(), json.loads(text)]}), ISSUER_ALGORITHMS),
    ):
        with pytest.raises(ValueError, match="private or symmetric") as error:
            check()
        assert not any(secret in str(error.value) for secret in secrets)


def test_a_key_that_is_too_long_is_refused() -> None:
    text = json.dumps(public())

    with pytest.raises(ValueError, match="4 KiB"):
        checker.check_key(text + " " * 4096)
    with pytest.raises(ValueError, match="64 KiB"):
        checker.check_key_set(text + " " * 65536, ISSUER_ALGORITHMS)


def test_a_set_may_hold_keys_of_other_kinds_beside_one_that_is_used() -> None:
    other = {"kty": "OKP", "crv": "X25519", "x": "AAAA", "use": "enc"}

    checker.check_key_set(json.dumps({"keys": [other, public()]}), ["ES256"])
    with pytest.raises(ValueError, match="holds no key"):
        checker.check_key_set(json.dumps({"keys": [other]}), ISSUER_ALGORITHMS)


def test_a_set_needs_a_key_for_an_algorithm_that_is_accepted() -> None:
    keys = json.dumps({"keys": [public("ES256")]})

    with pytest.raises(ValueError, match="holds no key"):
        checker.check_key_set(keys, ["RS256", "ES384"])


@pytest.mark.parametrize("keys", [None, {}, [], ["x"], [{}] * 101])
def test_a_set_is_a_list_of_a_bounded_number_of_keys(keys: Any) -> None:
    with pytest.raises(ValueError, match="keys"):
        checker.check_key_set(json.dumps({"keys": keys}), ISSUER_ALGORITHMS)
