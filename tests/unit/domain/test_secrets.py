"""Client secrets: made at random, stored as digests, and compared with all digests that are in force."""

import hashlib
import re
from datetime import timedelta

from identity_service.domain.secret import (
    CLIENT_SECRET_PREFIX,
    Secret,
    matches_any,
    new_client_secret,
    stored,
)
from tests.unit.domain.samples import MOMENT, START

OLD, NEW = Secret("old"), Secret("new")


def test_a_new_secret_has_256_random_bits_behind_a_prefix_for_scanners() -> None:
    texts = {new_client_secret().reveal() for _ in range(50)}
    assert len(texts) == 50
    assert all(re.fullmatch(CLIENT_SECRET_PREFIX + r"[A-Za-z0-9_-]{43}", text) for text in texts)


def test_only_the_digest_is_kept_and_not_shown() -> None:
    kept = stored(Secret("swordfish"))
    assert kept.digest == hashlib.sha256(b"swordfish").digest()
    assert "digest" not in repr(kept)


def test_a_secret_matches_itself_and_no_other() -> None:
    secret = new_client_secret()
    assert matches_any(secret, [stored(secret)], START)
    assert not matches_any(new_client_secret(), [stored(secret)], START)
    assert not matches_any(Secret(""), [stored(secret)], START)


def test_nothing_matches_a_client_without_secrets() -> None:
    assert not matches_any(Secret(""), [], START)


def test_while_two_secrets_overlap_both_match() -> None:
    kept = [stored(OLD, START + timedelta(days=1)), stored(NEW)]
    assert matches_any(OLD, kept, START)
    assert matches_any(NEW, kept, START)


def test_a_secret_stops_matching_at_its_expiry() -> None:
    kept = [stored(OLD, START), stored(NEW)]
    assert matches_any(OLD, kept, START - MOMENT)
    assert not matches_any(OLD, kept, START)
    assert matches_any(NEW, kept, START + timedelta(days=999))


def test_a_secret_kept_twice_matches_while_one_of_them_is_in_force() -> None:
    """A secret is stored twice, and one record has expired: the other one counts, whichever comes first."""
    expired, good = stored(OLD, START - MOMENT), stored(OLD)
    assert matches_any(OLD, [expired, good], START)
    assert matches_any(OLD, [good, expired], START)
