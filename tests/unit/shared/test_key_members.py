"""The checks of a key's members: its numbers, their spelling, and the use of the key."""

import json
import random
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from identity_service.domain.ids import base64url
from identity_shared import key_members
from identity_shared.key_members import check_members, check_rsa, check_use, has_roca_fingerprint
from identity_shared.strict import decode_base64url
from tests import weak_keys
from tests.weak_keys import ODD, ROCA, ROCA_P, ROCA_Q, WEAK, Numbers, base64url_number, rsa_jwk

GOOD = rsa_jwk(Numbers(ODD))
FIELDS = {"P-256": 32, "P-384": 48, "P-521": 66, "Ed25519": 32, "X25519": 32}
CURVES = pytest.mark.parametrize("curve", FIELDS)
WEAK_KEYS = pytest.mark.parametrize("numbers", WEAK.values(), ids=WEAK)


def on_curve(curve: str) -> dict[str, Any]:
    key: Any = (ECKey if curve.startswith("P-") else OKPKey).generate_key(curve)  # type: ignore[arg-type]
    return dict(key.as_dict(private=True))


def more_octets(text: str) -> str:
    return base64url(bytes(1) + decode_base64url(text))


def fewer_octets(text: str) -> str:
    return base64url(decode_base64url(text)[1:])


# Moduli that can be factored at once


@pytest.mark.parametrize("factor", [2, 3, 5, 167, 173, 331, 997])
def test_a_modulus_with_a_small_factor_is_refused(factor: int) -> None:
    for bits in (2048, 4096, 8192):
        multiple = 2**bits - 2**bits % factor - factor
        multiple -= factor * (1 - multiple % 2) if factor > 2 else 0
        with pytest.raises(ValueError, match="can be factored; make a new key"):
            check_rsa(multiple, 65537)


def test_only_prime_factors_below_a_thousand_are_looked_for() -> None:
    check_rsa(1009 * ODD, 65537)


@pytest.mark.parametrize("bits", [2048, 3072, 8192])
def test_a_square_is_refused_and_its_neighbours_are_not_taken_for_one(bits: int) -> None:
    root = 2 ** (bits // 2) - 1
    while any(root % prime == 0 for prime in key_members._PRIMES):
        root -= 2

    with pytest.raises(ValueError, match="square"):
        check_rsa(root**2, 65537)
    assert not [step for step in range(1, 500) if key_members._is_square(root**2 - 2 * step)]


# ROCA


def test_the_roca_key_of_these_tests_has_primes_as_the_faulty_generator_made_them() -> None:
    for prime in (ROCA_P, ROCA_Q):
        assert prime.bit_length() == 1024
        assert all(pow(base, prime - 1, prime) == 1 for base in (2, 3, 5, 7, 11, 13))
        assert has_roca_fingerprint(prime)


def test_a_modulus_with_the_fingerprint_of_roca_is_refused() -> None:
    assert has_roca_fingerprint(ROCA)
    with pytest.raises(ValueError, match="CVE-2017-15361"):
        check_rsa(ROCA, 65537)


@pytest.mark.parametrize("prime", [3, 5, 97, 163, 167])
def test_a_modulus_that_one_prime_divides_has_no_fingerprint(prime: int) -> None:
    """The generator never makes such a modulus, since its factors are primes."""
    assert not has_roca_fingerprint(ROCA * prime)


def test_the_fingerprint_needs_every_prime() -> None:
    """A modulus must match for all primes of the fingerprint. For 11, only the remainders 1 and 10 match."""
    others = key_members._ROCA_PRODUCT // 11

    assert has_roca_fingerprint(ROCA + key_members._ROCA_PRODUCT)
    assert sum(has_roca_fingerprint(ROCA + others * step) for step in range(11)) == 2


def test_the_fingerprint_is_rare_among_other_moduli() -> None:
    """An arbitrary modulus matches with a probability of 1 in 240 million, so none of 500 does."""
    chosen = random.Random(2017)  # noqa: S311  # no secret, and the same each time

    assert not any(has_roca_fingerprint(chosen.getrandbits(2048) | 2**2047 | 1) for _ in range(500))


# Numbers


@WEAK_KEYS
def test_weak_numbers_are_refused_with_the_member_and_a_fix(numbers: Numbers) -> None:
    with pytest.raises(ValueError, match=r"\(`[ne]`\).*make a new key"):
        check_rsa(*numbers)
    with pytest.raises(ValueError, match=r"\(`[ne]`\).*make a new key"):
        check_members(rsa_jwk(numbers))


@pytest.mark.parametrize("exponent", [1, 2, 4, 2**16, 2**64 + 1, 2**4000 + 1])
def test_an_exponent_is_odd_at_least_3_and_of_64_bits_at_most(exponent: int) -> None:
    with pytest.raises(ValueError, match=r"`e`.*65537"):
        check_rsa(ODD, exponent)
    with pytest.raises(ValueError, match=r"`e`.*65537"):
        check_members(rsa_jwk(Numbers(ODD, exponent)))


@pytest.mark.parametrize("numbers", [(ODD, 3), (2**2047 + 3, 65537), (2**8192 - 5, 2**64 - 1)])
def test_numbers_at_the_bounds_are_accepted(numbers: tuple[int, int]) -> None:
    check_rsa(*numbers)
    check_members(rsa_jwk(Numbers(*numbers)))


def test_a_smaller_bound_may_be_set() -> None:
    check_members(rsa_jwk(Numbers(2**4096 - 5)), max_rsa_bits=4096)
    with pytest.raises(ValueError, match="2048 to 4096 bits"):
        check_members(rsa_jwk(Numbers(2**4096 + 1)), max_rsa_bits=4096)


@pytest.mark.parametrize("name", ["n", "e"])
def test_a_long_text_is_refused_before_it_is_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def noted(text: str) -> bytes:
        decoded.append(text)
        return decode_base64url(text)

    monkeypatch.setattr(key_members, "decode_base64url", noted)
    long = "_" * 100_000

    with pytest.raises(ValueError, match=name):
        check_members(GOOD | {name: long})
    assert long not in decoded


# Spelling


@pytest.mark.parametrize("name", ["n", "e"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text + "=", "without padding"),
        (lambda text: text + "==", "without padding"),
        (lambda text: text[:-1] + "+", "without padding"),
        (lambda text: text[:-1] + "\ud800", "without padding"),
        (more_octets, "zero octets"),
        (lambda _: "", "zero octets"),
        (lambda _: "AA", "zero octets"),
        (lambda _: None, "a text"),
        (lambda _: 65537, "a text"),
        (lambda text: [text], "a text"),
    ],
)
def test_a_number_has_one_spelling(name: str, change: Any, why: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must .*{why}"):
        check_members(GOOD | {name: change(GOOD[name])})


def test_a_number_that_is_missing_is_named() -> None:
    for name in ("n", "e"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            check_members({member: value for member, value in GOOD.items() if member != name})


@pytest.mark.parametrize("name", ["d", "p", "q", "dp", "dq", "qi"])
def test_a_private_number_of_rsa_has_no_padding_and_is_not_shown(name: str) -> None:
    jwk = weak_keys.rsa_jwk(Numbers(ODD)) | {name: base64url_number(ROCA_P)}

    check_members(jwk)
    with pytest.raises(ValueError, match=f"`{name}` must be base64url without padding") as error:
        check_members(jwk | {name: jwk[name] + "="})
    assert jwk[name][:8] not in str(error.value)


@CURVES
@pytest.mark.parametrize("change", [more_octets, fewer_octets, lambda text: text + "=", lambda _: None])
def test_coordinates_and_scalars_have_the_length_of_their_field(curve: str, change: Any) -> None:
    jwk = on_curve(curve)
    check_members(jwk)

    for name in jwk.keys() & {"x", "y", "d"}:
        assert len(decode_base64url(jwk[name])) == FIELDS[curve]
        with pytest.raises(ValueError, match=f"`{name}` must .*export the key again") as error:
            check_members(jwk | {name: change(jwk[name])})
        assert jwk["d"][:8] not in str(error.value)


@CURVES
def test_a_coordinate_that_begins_with_zeros_keeps_them(curve: str) -> None:
    """A coordinate always has the length of the field (RFC 7518, section 6.2.1.2)."""
    check_members(on_curve(curve) | {"x": base64url(bytes(FIELDS[curve] - 1) + b"x")})


@pytest.mark.parametrize(
    "jwk", [{}, {"kty": "oct", "k": "="}, {"kty": ["RSA"]}, {"kty": "EC", "crv": ["P-256"]}, {"kty": "EC"}]
)
def test_keys_of_other_kinds_are_left_to_the_caller(jwk: dict[str, Any]) -> None:
    check_members(jwk)


# The use of a key


@pytest.mark.parametrize(
    "jwk", [{}, {"use": "sig"}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}]
)
def test_a_key_that_allows_it_passes(jwk: dict[str, Any]) -> None:
    check_use(jwk, "sig", {"verify"})


@pytest.mark.parametrize(
    "jwk",
    [
        {"use": None},
        {"use": "enc"},
        {"use": ["sig"]},
        {"key_ops": None},
        {"key_ops": "verify"},
        {"key_ops": {"verify": 1}},
        {"key_ops": []},
        {"key_ops": ["sign"]},
        {"key_ops": ["verify", 1]},
        {"key_ops": [["verify"]]},
        {"key_ops": ["verify", "verify"]},
    ],
    ids=json.dumps,
)
def test_a_key_whose_use_forbids_verifying_or_is_malformed_is_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(jwk))}` of the key"):
        check_use(jwk, "sig", {"verify"})
