"""DPoP proofs and nonces: each proof works once in all processes, and all accept the same nonces."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from identity_service.domain.credential_errors import DpopNonceRequiredError, DpopProofRefusedError
from identity_service.domain.dpop import PresentedProof
from identity_service.domain.errors import NoSigningKeyError
from identity_service.domain.ids import base64url, key_principal, new_epoch, new_link
from identity_service.domain.keys import KeyPolicy, KeyPurpose, StoredKey
from identity_service.domain.log import Generation
from identity_service.domain.revocations import Revocations
from identity_service.domain.secret import Secret
from identity_service.jose.dpop import StrictDpopProofs
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.services.dpop import DpopProofs
from identity_service.services.keyring import KeyRing
from identity_service.storage.sqlite import SqliteStore
from tests.dpop_proofs import TOKEN_URI, dpop_proof
from tests.fakes.clocks import FakeClock
from tests.high_s import twin
from tests.jwts import PartyKey

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEEWAY = timedelta(seconds=10)
VALID = timedelta(seconds=60)
TICK = timedelta(milliseconds=1)
KEY = PartyKey.make()
TOKEN = "an.access.token"
ATH = base64url(sha256(TOKEN.encode()).digest())


class Site:
    """A store with its keys, and the processes that use it."""

    def __init__(self) -> None:
        self.clock, self.revocations = FakeClock(NOW), Revocations()
        self.store = SqliteStore.open(":memory:", clock=self.clock)
        self.store.initialise(new_epoch())
        self.vault = Vault(Sealer(Secret("a master key that is long enough for tests")))
        self.add_key(KeyPurpose.SIGN, "ES256")

    def add_key(self, purpose: KeyPurpose, algorithm: str, after: timedelta = timedelta(0)) -> StoredKey:
        key = replace(self.vault.make(purpose, algorithm, NOW), activate_time=NOW + after)
        self.store.records.create(key)
        return key

    def retire(self, key: StoredKey) -> None:
        self.revocations.raise_to(key_principal(key.key_id), Generation(number=1, link=new_link()))

    def process(self, *, behind: timedelta = timedelta(0), require_nonce: bool = False) -> DpopProofs:
        """Return the use cases of a process whose clock is `behind` the clock of the store."""
        clock = FakeClock(NOW - behind) if behind else self.clock
        policy = KeyPolicy(
            rotate_every=timedelta(days=30),
            publish_before=timedelta(hours=1),
            lifetimes=dict.fromkeys(KeyPurpose, timedelta(days=1)),
        )
        keys = KeyRing(self.store.records, self.vault, clock, self.revocations, policy)
        keys.load()
        return DpopProofs(
            StrictDpopProofs(), self.store.single_use, keys, clock, leeway=LEEWAY, require_nonce=require_nonce
        )

    def presented(self, **changes: Any) -> PresentedProof:
        jwt = Secret(dpop_proof(KEY, self.clock.now(), **changes))
        return PresentedProof(jwt=jwt, method="POST", uris=(TOKEN_URI,))


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.store.close()


def test_a_proof_that_is_only_checked_can_be_checked_again(site: Site) -> None:
    """A check without use stores nothing, since a stranger can send any number of proofs."""
    process, presented = site.process(), site.presented()

    assert process.check(presented) == process.check(presented)


def test_a_proof_is_consumed_in_the_store_once_by_all_processes(site: Site) -> None:
    first, second = site.process(), site.process()
    presented = site.presented()
    first.consume(first.check(presented))

    for process in (first, second):
        with pytest.raises(DpopProofRefusedError, match="used before"):
            process.consume(process.check(presented))
    second.consume(second.check(site.presented()))


def test_a_proof_is_consumed_here_once_by_each_process(site: Site) -> None:
    first, second = site.process(), site.process()
    presented = site.presented(ath=ATH)
    first.consume_here(first.check(presented, access_token=TOKEN))

    with pytest.raises(DpopProofRefusedError, match="used before"):
        first.consume_here(first.check(presented, access_token=TOKEN))
    second.consume_here(second.check(presented, access_token=TOKEN))
    first.consume_here(first.check(site.presented(ath=ATH), access_token=TOKEN))


def test_the_other_signature_of_a_proof_is_the_same_proof(site: Site) -> None:
    process, presented = site.process(), site.presented()
    other = replace(presented, jwt=Secret(twin(presented.jwt.reveal())))
    for consume in (process.consume, process.consume_here):
        consume(process.check(presented))

        with pytest.raises(DpopProofRefusedError, match="used before"):
            consume(process.check(other))


def test_two_keys_may_use_the_same_id(site: Site) -> None:
    process, presented = site.process(), site.presented(jti="p1")
    other = replace(presented, jwt=Secret(dpop_proof(PartyKey.make(), NOW, jti="p1")))

    for consume in (process.consume, process.consume_here):
        consume(process.check(presented))
        consume(process.check(other))


@pytest.mark.parametrize("age", [0, 69, 79], ids="a process of {} s".format)
def test_no_process_accepts_a_proof_that_is_forgotten(site: Site, age: int) -> None:
    """A process remembers a used proof from the leeway before its `iat` until it is no longer valid."""
    process = site.process()
    site.clock.advance(timedelta(seconds=age))
    presented = site.presented(iat=int((site.clock.now() + LEEWAY).timestamp()))
    process.consume(process.check(presented))
    process.consume_here(process.check(presented))

    site.clock.advance(LEEWAY + VALID + LEEWAY - TICK)
    proof = process.check(presented)
    for consume in (process.consume, process.consume_here):
        with pytest.raises(DpopProofRefusedError, match="used before"):
            consume(proof)
    site.clock.advance(TICK)
    with pytest.raises(DpopProofRefusedError, match="iat"):
        process.check(presented)


def test_a_process_whose_clock_is_behind_that_of_the_store_accepts_no_proof_again(site: Site) -> None:
    presented = site.presented()
    process = site.process()
    process.consume(process.check(presented))

    site.clock.advance(VALID + LEEWAY + LEEWAY - TICK)
    late = site.process(behind=-(VALID + LEEWAY - TICK))
    with pytest.raises(DpopProofRefusedError, match="used before"):
        late.consume(late.check(presented))


def test_a_proof_of_another_access_token_is_refused(site: Site) -> None:
    process = site.process()

    for presented in (site.presented(ath=ATH), site.presented()):
        with pytest.raises(DpopProofRefusedError, match="ath"):
            process.check(presented, access_token="another.access.token")


def test_a_required_nonce_is_that_of_any_process(site: Site) -> None:
    site.add_key(KeyPurpose.REFRESH, "HS256")
    first, second = site.process(require_nonce=True), site.process(require_nonce=True)

    with pytest.raises(DpopNonceRequiredError) as refusal:
        first.check(site.presented())
    assert refusal.value.nonce == first.nonce() == second.nonce()
    second.check(site.presented(nonce=refusal.value.nonce))
    site.clock.advance(timedelta(minutes=10))
    with pytest.raises(DpopNonceRequiredError):
        second.check(site.presented(nonce=refusal.value.nonce))


def test_a_nonce_of_another_service_is_not_accepted(site: Site) -> None:
    other = Site()
    for one in (site, other):
        one.add_key(KeyPurpose.REFRESH, "HS256")
    foreign = other.process().nonce()

    with pytest.raises(DpopNonceRequiredError):
        site.process(require_nonce=True).check(site.presented(nonce=foreign))
    other.store.close()


def test_a_nonce_outlives_the_rotation_of_its_key_but_not_its_retirement(site: Site) -> None:
    old = site.add_key(KeyPurpose.REFRESH, "HS256")
    site.add_key(KeyPurpose.REFRESH, "HS256", after=timedelta(minutes=1))
    process = site.process(require_nonce=True)
    nonce = process.nonce()
    site.clock.advance(timedelta(minutes=1))

    assert process.nonce() != nonce
    process.check(site.presented(nonce=nonce))
    site.retire(old)
    with pytest.raises(DpopNonceRequiredError):
        process.check(site.presented(nonce=nonce))


def test_without_a_refresh_key_there_is_no_nonce_and_none_is_accepted(site: Site) -> None:
    for use in (
        lambda: site.process().nonce(),
        lambda: site.process(require_nonce=True).check(site.presented()),
    ):
        with pytest.raises(NoSigningKeyError):
            use()
    assert site.process(require_nonce=True).next_nonce() is None, "an answer is sent without one"
    site.process().check(site.presented())
