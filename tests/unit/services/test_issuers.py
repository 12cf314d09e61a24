"""Trusted issuers in memory: all are read at the start, and again when one of them changes."""

from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import IssuerNames, TrustedIssuer, TrustRule
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.services.issuers import IssuerDirectory
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.issuer_keys import FakeIssuerKeys


def named(name: str) -> TrustedIssuer:
    rule = TrustRule(claims={"sub": "x"}, client_id=PrincipalId("reports"))
    return TrustedIssuer(issuer=name, jwks="{}", rules=(rule,))


def changed(kind: RecordKind, id_: str) -> RecordChanged:
    return RecordChanged(kind=kind, id=id_)


def test_all_issuers_are_known_from_the_start_however_many(store: SqliteStore) -> None:
    names = [f"https://issuer-{number:03}.example" for number in range(250)]
    for name in names:
        store.records.create(named(name))
    keys = FakeIssuerKeys()
    issuers = IssuerDirectory(store.records, keys, RecordingEventLog(), own=IssuerNames("own"))

    issuers.on_records_changed(None)

    assert [name for name in names if issuers.find(name) is None] == []
    assert keys.followed == [names]


def test_an_unknown_issuer_is_refused_without_asking_the_store(
    store: SqliteStore,
) -> None:
    issuers = IssuerDirectory(store.records, FakeIssuerKeys(), RecordingEventLog(), own=IssuerNames("own"))
    issuers.on_records_changed(None)
    store.records.create(named("https://new.example"))

    assert issuers.find("https://new.example") is None
    issuers.on_records_changed([changed(RecordKind.ISSUER, "https://new.example")])
    assert issuers.find("https://new.example") is not None


def test_an_issuer_is_compared_as_a_whole(store: SqliteStore) -> None:
    store.records.create(named("https://issuer.example"))
    issuers = IssuerDirectory(store.records, FakeIssuerKeys(), RecordingEventLog(), own=IssuerNames("own"))
    issuers.on_records_changed(None)

    for near in ("https://issuer.example/", "https://ISSUER.example", "https://issuer.exampl", ""):
        assert issuers.find(near) is None


def test_changes_of_other_records_read_nothing(store: SqliteStore) -> None:
    keys = FakeIssuerKeys()
    issuers = IssuerDirectory(store.records, keys, RecordingEventLog(), own=IssuerNames("own"))

    for kind in set(RecordKind) - {RecordKind.ISSUER}:
        issuers.on_records_changed([changed(kind, "x")])

    assert keys.followed == []


def test_a_spelling_of_a_former_name_of_ours_is_not_trusted(store: SqliteStore) -> None:
    for name in ("https://Former.example/", "https://other.example"):
        store.records.create(named(name))
    keys, event_log = FakeIssuerKeys(), RecordingEventLog()
    own = IssuerNames("own", former=("former", "https://former.example"))
    issuers = IssuerDirectory(store.records, keys, event_log, own=own)

    issuers.on_records_changed(None)

    assert keys.followed == [["https://other.example"]]
    assert event_log.named("issuer_has_own_name") == [
        {"issuer": "https://Former.example/", "own": "https://former.example"}
    ]


def test_our_own_name_is_trusted_for_no_other_issuer(store: SqliteStore) -> None:
    """A record like this may come from an older version, or from before `issuer` was changed."""
    for name in ("own", "https://other.example"):
        store.records.create(named(name))
    keys = FakeIssuerKeys()
    issuers = IssuerDirectory(store.records, keys, RecordingEventLog(), own=IssuerNames("own"))

    issuers.on_records_changed(None)

    assert issuers.find("own") is None
    assert keys.followed == [["https://other.example"]]


def test_a_record_with_a_spelling_of_our_own_name_is_not_trusted_and_named_once(store: SqliteStore) -> None:
    own, spelled = "https://identity.example", "https://Identity.example:443/"
    for name in (own, spelled, "https://other.example"):
        store.records.create(named(name))
    keys, event_log = FakeIssuerKeys(), RecordingEventLog()
    issuers = IssuerDirectory(store.records, keys, event_log, own=IssuerNames(own))

    for changes in (None, [changed(RecordKind.ISSUER, spelled)], None):
        issuers.on_records_changed(changes)

    assert [name for name in (own, spelled) if issuers.find(name)] == []
    assert keys.followed == [["https://other.example"]] * 3
    assert event_log.named("issuer_has_own_name") == [
        {"issuer": spelled, "own": own},
        {"issuer": own, "own": own},
    ]
