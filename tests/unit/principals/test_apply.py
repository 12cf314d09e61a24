"""Applying a principals file: the records match it, and a second or a concurrent run changes nothing."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client
from identity_service.domain.secret import Secret
from identity_service.domain.visible import is_visible_text
from identity_service.principals.apply import carry_out, plan
from identity_service.principals.inside import OwnRecords
from identity_service.principals.plan import Action, Declared, Found
from tests.unit.principals.site import Site, declared, open_site

TEXT = """
clients:
  reports: {audiences: [api], scopes: [read], secret: true}
  deployer: {audiences: [api], grants: [client_credentials, token_exchange]}
users:
  ana: {audiences: [api], scopes: [read]}
trusted_issuers:
  https://ci.example:
    jwks_uri: https://ci.example/jwks
    rules: [{claims: {repository: shop}, client_id: deployer}]
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as site:
        yield site


def test_applying_creates_the_declared_records_and_a_second_plan_is_empty(site: Site) -> None:
    steps = site.apply(TEXT)

    assert [(step.action, step.kind, step.name) for step in steps] == [
        (Action.CREATE, "client", "reports"),
        (Action.CREATE, "client", "deployer"),
        (Action.CREATE, "user", "ana"),
        (Action.CREATE, "trusted_issuer", "https://ci.example"),
    ]
    assert site.directory.clients.get("reports").record.scopes == {"read"}
    assert site.directory.users.find("ana").record.password_hash is None
    assert site.directory.issuers.get("https://ci.example").record.rules[0].client_id == "deployer"
    assert list(site.secrets) == ["reports"]
    assert not site.directory.clients.get("deployer").record.secrets
    before = site.events()
    assert site.apply(TEXT) == ()
    assert site.events() == before


def test_planning_changes_nothing(site: Site) -> None:
    before = site.events()

    assert len(site.plan(TEXT)) == 4
    assert (site.events(), site.clients()) == (before, ["admin", "first-party"])


def test_fields_that_were_changed_since_are_corrected_one_by_one(site: Site) -> None:
    site.apply(TEXT)
    user = site.directory.users.find("ana").record
    site.directory.clients.update(
        Client(
            client_id=PrincipalId("reports"), scopes=frozenset({"write"}), max_lifetime=timedelta(hours=1)
        ),
        ["scopes", "max_lifetime"],
    )

    (step,) = site.apply(TEXT)

    assert [(d.field, d.before, d.after) for d in step.differences] == [
        ("scopes", ["write"], ["read"]),
        ("max_lifetime", 3600, None),
    ]
    assert site.directory.users.find("ana").record == user
    assert site.events()[-1] == "client_updated reports"


def test_a_user_keeps_id_and_password_when_the_file_writes_the_name_otherwise(site: Site) -> None:
    site.apply("users: {ana: }")
    before = site.directory.users.find("ana").record
    site.directory.users.set_password(before.user_id, Secret("correct horse battery"))

    site.apply("users: {Ana: {scopes: [read]}}")

    after = site.directory.users.find("ana").record
    assert (after.user_id, after.username, after.scopes) == (before.user_id, "Ana", frozenset({"read"}))
    assert after.password_hash is not None


def test_an_emergency_is_not_undone_by_a_file_that_does_not_speak_of_it(site: Site) -> None:
    site.apply(TEXT)
    site.directory.clients.update(Client(client_id=PrincipalId("reports"), disabled=True), ["disabled"])

    assert site.apply(TEXT) == ()
    site.apply("clients: {reports: {audiences: [api], scopes: [read], disabled: false}}")
    assert not site.directory.clients.get("reports").record.disabled


def test_a_client_that_lost_its_need_for_a_key_gets_a_secret(site: Site) -> None:
    text = "clients: {a: {certificates: ['dns:a.example']%s}}"
    site.apply(text % "")

    (step,) = site.apply(text % ", secret: true")

    assert (step.action, step.secret, step.differences) == (Action.CHANGE, True, ())
    assert site.secrets["a"].startswith("idcs_")
    assert site.apply(text % ", secret: true") == ()


def test_an_issuer_may_get_its_keys_from_elsewhere(site: Site) -> None:
    site.apply(TEXT)
    elsewhere = TEXT.replace("jwks_uri: https://ci.example/jwks", "jwks_file: /etc/ci.jwks")

    (step,) = site.apply(elsewhere)

    assert [d.field for d in step.differences] == ["jwks_uri", "jwks_file"]
    assert site.directory.issuers.get("https://ci.example").record.jwks_uri is None
    assert site.apply(elsewhere) == ()


def test_pruning_deletes_records_of_the_files_kinds_that_it_does_not_name(site: Site) -> None:
    site.apply(TEXT)
    rest = "clients: {reports: {audiences: [api], scopes: [read]}}\ntrusted_issuers: {}"

    assert site.apply(rest) == ()
    steps = site.apply(rest, prune=True)

    assert [(step.action, step.kind, step.name) for step in steps] == [
        (Action.DELETE, "trusted_issuer", "https://ci.example"),
        (Action.DELETE, "client", "deployer"),
    ]
    assert site.clients() == ["admin", "first-party", "reports"]
    assert site.directory.users.find("ana").record.username == "ana"


def test_pruning_never_deletes_its_caller(site: Site) -> None:
    site.apply(TEXT)
    ana = site.directory.users.find("ana").record.user_id

    empty = "clients: {}\nusers: {}"
    assert [step.name for step in site.plan(empty, prune=True, caller="deployer")] == ["ana", "reports"]
    assert [step.name for step in site.plan(empty, prune=True, caller=ana)] == ["deployer", "reports"]


def test_pruning_goes_through_every_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity_service.principals.inside._PAGE", 2)
    site.apply("clients: {a: , b: , c: , d: , e: }")

    site.apply("clients: {}", prune=True)

    assert site.clients() == ["admin", "first-party"]


def test_a_refused_record_is_named_and_the_others_are_applied(site: Site) -> None:
    site.apply("clients: {taken: {certificates: ['dns:a.example']}}")

    with pytest.raises(ConfigurationError) as error:
        site.apply("clients: {a: {certificates: ['dns:a.example']}, b: {scopes: [read]}}")

    assert str(error.value).startswith("client a: ")
    assert site.clients() == ["admin", "b", "first-party", "taken"]


class Raced(OwnRecords):
    """Records that another administrator changes just before the first write of the test."""

    def __init__(self, site: Site, text: str, *, prune: bool = False) -> None:
        super().__init__(site.directory)
        self._site, self._text, self._prune = site, text, prune
        self._rounds = 1

    def _race(self) -> None:
        if self._rounds:
            self._rounds -= 1
            self._site.apply(self._text, prune=self._prune)

    def create(self, record: Declared, *, secret: bool) -> Secret | None:
        self._race()
        return super().create(record, secret=secret)

    def update(self, record: Declared, fields: Sequence[str], found: Found) -> None:
        self._race()
        super().update(record, fields, found)

    def delete(self, found: Found) -> None:
        self._race()
        super().delete(found)


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        ("", TEXT),
        ("clients: {reports: {scopes: [write], secret: true}}", TEXT),
        ("", "clients: {reports: {audiences: [api], scopes: [write]}}"),
        ("clients: {reports: {scopes: [write]}}", "clients: {reports: {scopes: [other]}}"),
        ("clients: {reports: {scopes: [write]}}", "clients: {}"),
    ],
)
def test_a_plan_that_was_overtaken_is_made_again(site: Site, before: str, meanwhile: str) -> None:
    site.apply(before)
    steps = site.plan(TEXT)

    carry_out(steps, Raced(site, meanwhile, prune=True), site.keep)

    assert site.plan(TEXT) == ()
    assert list(site.secrets) == ["reports"]


def test_a_record_that_changed_since_it_was_to_be_deleted_stays(site: Site) -> None:
    site.apply("clients: {a: , b: }")
    steps = site.plan("clients: {}", prune=True)

    with pytest.raises(ConfigurationError, match="client a: "):
        carry_out(steps, Raced(site, "clients: {a: {scopes: [read]}}"), site.keep)
    assert site.clients() == ["a", "admin", "first-party"]


def test_a_record_that_was_deleted_meanwhile_counts_as_deleted(site: Site) -> None:
    site.apply("clients: {a: }")
    steps = site.plan("clients: {}", prune=True)

    carry_out(steps, Raced(site, "clients: {}", prune=True), site.keep)

    assert site.clients() == ["admin", "first-party"]


def test_a_record_that_never_stands_still_is_given_up(site: Site) -> None:
    site.apply("clients: {reports: {scopes: [write]}}")

    class Restless(Raced):
        def _race(self) -> None:
            client = self._site.directory.clients.get("reports").record
            count = len(client.display_name) + 1
            changed = Client(client_id=client.client_id, display_name="x" * count)
            self._site.directory.clients.update(changed, ["display_name"])

    with pytest.raises(ConfigurationError, match="has changed"):
        carry_out(site.plan(TEXT), Restless(site, ""), site.keep)


def test_an_unreachable_store_ends_the_run(site: Site) -> None:
    class Away(OwnRecords):
        def create(self, record: Declared, *, secret: bool) -> Secret | None:
            raise StoreUnavailableError("away")

    with pytest.raises(StoreUnavailableError):
        carry_out(site.plan(TEXT), Away(site.directory), site.keep)


def test_many_processes_at_once_come_to_the_same_end(tmp_path: Path) -> None:
    path, many = str(tmp_path / "identity.db"), 6
    together = threading.Barrier(many)
    with open_site(path) as first:
        first.apply("clients: {deployer: {scopes: [other]}}\nusers: {ana: {scopes: [other]}}")

        def apply(_: int) -> None:
            with open_site(path, new=False) as site:
                together.wait()
                steps = plan(declared(TEXT), site.records)
                together.wait()
                carry_out(steps, site.records, site.keep)

        with ThreadPoolExecutor(many) as pool:
            list(pool.map(apply, range(many)))

        assert first.plan(TEXT) == ()
        events = first.events()
        assert events.count("client_created reports") == 1
        assert events.count("client_updated deployer") == 1


names = st.text("abcdefgh", min_size=1, max_size=3)
scopes = st.lists(st.sampled_from(["read", "write", "no", "1"]), max_size=3)
clients = st.fixed_dictionaries(
    {},
    optional={
        "scopes": scopes,
        "audiences": st.lists(names, max_size=2),
        "display_name": st.text(max_size=5).filter(is_visible_text),
        "max_lifetime": st.integers(1, 10_000),
        "require_binding": st.booleans(),
        "exchange_audiences": scopes,
        "secret": st.booleans(),
        "disabled": st.booleans(),
        "grants": st.sampled_from([["client_credentials"], ["token_exchange", "client_credentials"]]),
        "on_reuse": st.sampled_from(["refuse", "end_session"]),
    },
)
users = st.fixed_dictionaries({}, optional={"scopes": scopes, "disabled": st.booleans()})
issuers = st.fixed_dictionaries(
    {
        "jwks_uri": st.sampled_from(["https://a.example/jwks", "https://b.example/jwks"]),
        "rules": st.lists(
            st.fixed_dictionaries(
                {"claims": st.dictionaries(names, names, min_size=1, max_size=2), "client_id": names},
                optional={"per_subject": st.booleans()},
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={
        "audiences": st.lists(names, max_size=2),
        "algorithms": st.lists(st.sampled_from(["ES256", "EdDSA"]), min_size=1, max_size=2),
        "single_use": st.booleans(),
        "max_age": st.integers(1, 1000),
    },
)
files = st.fixed_dictionaries(
    {},
    optional={
        "clients": st.dictionaries(names, clients, max_size=3),
        "users": st.dictionaries(names, users, max_size=3),
        "trusted_issuers": st.dictionaries(names, issuers, max_size=2),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(files, min_size=1, max_size=4), st.booleans())
def test_after_a_file_was_applied_its_plan_is_empty_whatever_was_applied_before(
    history: list[dict[str, object]], prune: bool
) -> None:
    with open_site() as site:
        for content in history:
            text = yaml.safe_dump(content, allow_unicode=True)
            site.apply(text, prune=prune)
            assert site.plan(text, prune=prune) == ()
