"""Encrypted values in the store: only the right master key decrypts one, and only for its own record."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from joserfc import jwe
from joserfc.jwk import OctKey

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.keys import KeyPurpose
from identity_service.domain.secret import Secret
from identity_service.jose.keys import ALGORITHMS
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def sealer() -> Sealer:
    return Sealer(Secret("the master key of these tests, long enough"))


@pytest.fixture(scope="module")
def other() -> Sealer:
    return Sealer(Secret("another master key, which is long enough too"))


def test_a_sealed_text_opens_for_the_same_record(sealer: Sealer) -> None:
    sealed = sealer.seal("precious", "k1")

    assert "precious" not in sealed
    assert sealer.open(sealed, "k1") == "precious"
    assert sealer.seal("precious", "k1") != sealed


def test_another_master_key_is_refused_clearly(sealer: Sealer, other: Sealer) -> None:
    with pytest.raises(ConfigurationError, match="master key does not open"):
        other.open(sealer.seal("precious", "k1"), "k1")


def test_a_text_that_was_sealed_for_another_record_is_refused(sealer: Sealer) -> None:
    with pytest.raises(ConfigurationError, match="another key"):
        sealer.open(sealer.seal("precious", "k1"), "k2")


def test_a_changed_seal_is_refused(sealer: Sealer) -> None:
    sealed = sealer.seal("precious", "k1")
    tag = "B" if sealed[-2] == "A" else "A"
    for changed in (sealed[:-2] + tag + sealed[-1], sealed[5:], sealed + ".", "", "a.b.c.d.e"):
        with pytest.raises(ConfigurationError):
            sealer.open(changed, "k1")


def test_another_algorithm_is_refused_even_with_the_right_key(sealer: Sealer) -> None:
    key = OctKey.import_key(b"k" * 16)
    for algorithm, method in (("A128KW", "A128GCM"), ("A128GCMKW", "A256GCM")):
        header = {"alg": algorithm, "enc": method, "kid": "k1"}
        sealed = jwe.encrypt_compact(header, b"precious", key, algorithms=[algorithm, method])
        with pytest.raises(ConfigurationError):
            sealer.open(sealed, "k1")


@pytest.mark.parametrize("text", ["", "short", "x" * 31])
def test_a_short_master_key_is_refused_with_a_way_to_make_one(text: str) -> None:
    with pytest.raises(ConfigurationError, match="openssl rand") as refused:
        Sealer(Secret(text))
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_vault_opens_the_signing_keys_that_it_made(sealer: Sealer, algorithm: str) -> None:
    vault = Vault(sealer)

    key = vault.make(KeyPurpose.SIGN, algorithm, NOW)
    signature = vault.open_signing(key).sign(b"message")

    assert vault.open_verifying(key).verify(b"message", signature)
    assert vault.open_signing(key).key_id == vault.open_verifying(key).key_id == key.key_id
    assert (key.create_time, key.activate_time) == (NOW, NOW)


def test_the_vault_opens_the_refresh_keys_that_it_made(sealer: Sealer) -> None:
    vault = Vault(sealer)
    one, two = (vault.make(KeyPurpose.REFRESH, "HS256", NOW) for _ in range(2))

    assert len(vault.open_refresh(one)) == 32
    assert vault.open_refresh(one) == vault.open_refresh(one) != vault.open_refresh(two)
    assert len(one.key_id) == 11


def test_a_vault_with_another_master_key_opens_nothing(sealer: Sealer, other: Sealer) -> None:
    key = Vault(sealer).make(KeyPurpose.SIGN, "ES256", NOW)
    refresh = Vault(sealer).make(KeyPurpose.REFRESH, "HS256", NOW)

    with pytest.raises(ConfigurationError):
        Vault(other).open_signing(key)
    with pytest.raises(ConfigurationError):
        Vault(other).open_refresh(refresh)


def test_a_spoilt_public_key_is_refused_with_its_id(sealer: Sealer) -> None:
    key = Vault(sealer).make(KeyPurpose.SIGN, "ES256", NOW)

    with pytest.raises(ConfigurationError, match=key.key_id):
        Vault(sealer).open_verifying(replace(key, public_jwk="{}"))


@pytest.mark.parametrize("text", [" " * 40, "x" * 40, "\n\t " * 20, "ab" * 20, f"  {'x' * 40}  "])
def test_a_guessable_master_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="openssl rand") as refused:
        Sealer(Secret(text))
    assert text.strip() not in str(refused.value) or not text.strip()


@pytest.mark.parametrize("text", ["0123456789abcdef" * 2, "k" * 40 + "01"])
def test_other_master_keys_of_older_stores_still_open(text: str) -> None:
    """Only a master key that protects nothing may be refused now although older versions accepted it."""
    assert Sealer(Secret(text)).open(Sealer(Secret(text)).seal("s", "k"), "k") == "s"
