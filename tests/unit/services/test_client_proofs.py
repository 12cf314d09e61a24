"""Checking proofs of clients: neither the reads nor their duration reveal which clients exist."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.adapters.clock import SystemClock
from identity_service.domain.assertions import UnverifiedAssertion
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.ids import EVERYONE, Link, PrincipalId, new_epoch
from identity_service.domain.issuers import IssuerNames, TrustedIssuer, TrustRule, federated_id
from identity_service.domain.log import Generation
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.ports import Clock, VerifyingKey
from identity_service.domain.principals import Client
from identity_service.domain.revocations import Revocations, first_raised
from identity_service.domain.secret import Secret
from identity_service.jose.assertions import StrictAssertions
from identity_service.jose.jwks import open_public_key
from identity_service.services.client_proofs import AuthenticatedClient, ClientProofs
from identity_service.services.directory import Directory
from identity_service.services.issuers import IssuerDirectory
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.issuer_keys import FakeIssuerKeys
from tests.fakes.replicas import FakeReplica
from tests.jwts import PartyKey, assertion_claims
from tests.weak_keys import ROCA, Numbers, rsa_jwk

KEY = PartyKey.make()
CLIENT = PrincipalId("reports")
ISSUER = "https://issuer.example"
OTHER = "https://other.example"
"""A trusted issuer from which only RS256 is accepted."""
CERTIFICATE = PeerCertificate(sha256=b"x" * 32, names=frozenset({"dns:reports.example"}))
LEEWAY = timedelta(seconds=10)
LIFETIME = timedelta(seconds=60)
"""The lifetime of the assertions of `Site.assertion`."""
Prove = Callable[["Site"], AuthenticatedClient]


class CountingReader(StrictAssertions):
    """Counts the verifications of signatures, including those whose result is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.verifications = 0

    def spend(self, assertion: UnverifiedAssertion) -> None:
        self.verifications += 1
        super().spend(assertion)

    def open_key(self, jwk: str) -> VerifyingKey:
        reader, key = self, super().open_key(jwk)

        @dataclass(frozen=True)
        class Counted:
            key_id: str = key.key_id
            algorithm: str = key.algorithm

            def verify(self, message: bytes, signature: bytes) -> bool:
                reader.verifications += 1
                return key.verify(message, signature)

        counted: Any = Counted()
        opened: VerifyingKey = counted
        return opened


class RaisingDirectory(Directory):
    """A directory that revokes everything of a principal at the worst moment: when its record is read."""

    def __init__(self, store: SqliteStore, revocations: Revocations) -> None:
        super().__init__(store.records)
        self._revocations = revocations
        self.raises: tuple[PrincipalId, ...] = ()
        self._reads = 0

    def client(self, client_id: PrincipalId, *, may_wait: bool = True) -> Client | None:
        self._reads += 1
        for principal in self.raises:
            self._revocations.raise_to(principal, Generation(number=self._reads, link=Link("raised")))
        return super().client(client_id, may_wait=may_wait)


class Site:
    """A client with every kind of proof, and the use case that checks them."""

    def __init__(self, store: SqliteStore, clock: Clock | None = None) -> None:
        self._store, self._clock = store, clock or SystemClock()
        self.reader, self.revocations = CountingReader(), Revocations()
        self.directory = RaisingDirectory(store, self.revocations)
        store.records.create(
            Client(
                client_id=CLIENT,
                public_keys=(KEY.public_jwk,),
                certificates=frozenset({"dns:reports.example"}),
            )
        )
        rule = TrustRule(claims={"sub": "*"}, client_id=CLIENT, per_subject=True)
        store.records.create(TrustedIssuer(issuer=ISSUER, jwks="{}", rules=(rule,)))
        store.records.create(TrustedIssuer(issuer=OTHER, jwks="{}", rules=(rule,), algorithms=("RS256",)))
        keys = FakeIssuerKeys(open_public_key(KEY.public_jwk))
        issuers = IssuerDirectory(store.records, keys, RecordingEventLog(), own=IssuerNames("own"))
        issuers.on_records_changed(None)
        replica = FakeReplica(FakeClock())
        replica.revocations = self.revocations
        self.proofs = ClientProofs(
            store.single_use,
            replica,
            self.directory,
            issuers,
            self.reader,
            self._clock,
            audiences=("identity-service",),
            leeway=LEEWAY,
        )

    def register(self, *public_keys: str) -> None:
        found = self._store.records.get(Client, CLIENT)
        assert found is not None
        changed = replace(found.record, public_keys=public_keys)
        self._store.records.update(changed, expected=found.revision)

    def assertion(self, client_id: str = "reports", **header: Any) -> Secret:
        return Secret(KEY.jwt(assertion_claims(client_id, self._clock.now()), **header))

    def federated(self, issuer: str = ISSUER) -> Secret:
        return Secret(KEY.jwt(assertion_claims("", SystemClock().now(), iss=issuer, sub="a job")))


PROOFS: dict[str, Prove] = {
    "assertion": lambda site: site.proofs.by_assertion(site.assertion()),
    "certificate": lambda site: site.proofs.by_certificate(CERTIFICATE),
    "federated token": lambda site: site.proofs.by_federated_token(site.federated()),
}


@pytest.fixture
def site(store: SqliteStore) -> Site:
    return Site(store)


@pytest.mark.parametrize("prove", PROOFS.values(), ids=PROOFS)
@pytest.mark.parametrize("principal", [EVERYONE, CLIENT])
def test_a_raise_while_the_record_is_read_revokes_the_resulting_tokens(
    site: Site, prove: Prove, principal: PrincipalId
) -> None:
    site.directory.raises = (principal,)

    proven = prove(site)
    site.directory.raises = ()

    assert first_raised(site.revocations.generations, frozenset({principal}), proven.generations) is not None
    assert first_raised(site.revocations.generations, frozenset({principal}), prove(site).generations) is None


def test_an_algorithm_that_the_issuer_may_not_use_proves_nothing_with_any_key(
    site: Site,
) -> None:
    with pytest.raises(CredentialRefusedError) as refused:
        site.proofs.by_federated_token(site.federated(OTHER))

    assert "alg" in refused.value.why


def test_a_federated_subject_has_a_generation_of_its_own(site: Site) -> None:
    subject = federated_id(ISSUER, "a job")
    site.directory.raises = (subject,)
    first, second = (site.proofs.by_federated_token(site.federated()) for _ in range(2))

    assert first.subject == subject
    assert (subject in first.generations, subject in second.generations) == (False, True)


@pytest.mark.parametrize(
    ("client_id", "key_id"), [("reports", "k1"), ("reports", "x"), ("nobody", "k1"), ("not an id", "k1")]
)
def test_an_assertion_of_any_client_known_or_not_costs_one_verification(
    site: Site, client_id: str, key_id: str
) -> None:
    """Otherwise the time until the refusal would reveal which clients exist."""
    header, claims, _ = site.assertion(client_id, kid=key_id).reveal().split(".")
    forged = Secret(f"{header}.{claims}.{site.assertion().reveal().rpartition('.')[2]}")

    with pytest.raises(CredentialRefusedError):
        site.proofs.by_assertion(forged)

    assert site.reader.verifications == 1


def test_only_a_client_that_exists_is_named_to_the_operator(site: Site) -> None:
    """An unknown id may be anything, even a password that was typed into the wrong field."""
    named = {}
    for client_id in ("reports", "nobody"):
        with pytest.raises(CredentialRefusedError) as refused:
            site.proofs.by_assertion(site.assertion(client_id, kid="x"))
        named[client_id] = refused.value.principal

    assert named == {"reports": "reports", "nobody": ""}


def test_a_registered_key_that_is_refused_now_disables_no_other_one(site: Site) -> None:
    """The store may have keys from before the rules for keys became stricter."""
    weak = json.dumps(rsa_jwk(Numbers(ROCA), kid="weak", alg="RS256"))
    site.register(weak, KEY.public_jwk)

    assert site.proofs.by_assertion(site.assertion()).client.client_id == CLIENT
    before = site.reader.verifications
    with pytest.raises(CredentialRefusedError):
        site.proofs.by_assertion(site.assertion(kid="weak"))
    assert site.reader.verifications == before + 1, "a refusal takes as long as one by a good key"


@pytest.mark.parametrize("after", [timedelta(0), LEEWAY - timedelta(milliseconds=1)])
def test_an_assertion_works_once_although_the_clock_of_the_store_is_ahead(after: timedelta) -> None:
    """The second use comes `after` the assertion's `exp`, when the leeway of the process still accepts it."""
    clock, clock_of_store = FakeClock(), FakeClock()
    clock_of_store.step(LEEWAY - timedelta(milliseconds=1))
    store = SqliteStore.open(":memory:", clock=clock_of_store)
    store.initialise(new_epoch())
    site = Site(store, clock)
    assertion = site.assertion()
    site.proofs.by_assertion(assertion)

    passed = LIFETIME + after
    clock.advance(passed)
    clock_of_store.advance(passed)

    with pytest.raises(CredentialRefusedError) as refused:
        site.proofs.by_assertion(assertion)
    assert "used before" in refused.value.why
    store.close()
