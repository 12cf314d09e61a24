"""`identity doctor`: it reports each problem with its remedy, and nothing once all are solved."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from identity_service.adapters.clock import SystemClock
from identity_service.bootstrap import ENDED
from identity_service.domain.copying import CopiedItem, CopiedUse, Fence
from identity_service.domain.ids import Epoch, PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.secret import Secret
from identity_service.jose.sealing import Sealer
from identity_service.replication.freshness import FRESH
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from tests.cli.conftest import Run
from tests.fakes.clocks import FakeClock
from tests.issuer_server import IssuerServer
from tests.jwts import PartyKey, key_set
from tests.redis_server import RedisServer, ask


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def findings(run: Run, run_json: Callable[..., Any], server: RedisServer) -> Callable[[int], list[Any]]:
    """Return what the doctor reports about the store's configuration, and check its exit code."""
    run("init", IDENTITY_STORE=server.url)

    def findings(code: int) -> list[Any]:
        lines = run_json("doctor", code=code, IDENTITY_STORE=server.url)
        return [line for line in lines if line["check"] == "store set-up"]

    return findings


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("appendfsync", "no", "always"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
    ],
)
def test_a_wrong_setting_of_redis_is_reported_with_its_fix_and_passes_after_it(
    server: RedisServer, findings: Callable[[int], list[Any]], name: str, wrong: str, right: str
) -> None:
    server.configure(name, wrong)
    (found,) = findings(1)
    assert found["result"] == "FAIL"
    assert f"CONFIG SET {name} {right}" in found["advice"]

    server.configure(name, right)
    (found,) = findings(0)
    assert (found["result"], found["advice"]) == ("ok", "durability local")


def test_a_redis_that_hides_its_configuration_fails_unless_the_operator_vouches_for_it(
    run_json: Callable[..., Any], server: RedisServer, findings: Callable[[int], list[Any]]
) -> None:
    assert len(findings(0)) == 1
    ask(server.port, b"ACL SETUSER guarded on >pw ~* &* +@all -config\r\n")
    url = f"redis://guarded:pw@127.0.0.1:{server.port}/0"

    lines = run_json("doctor", code=1, IDENTITY_STORE=url)
    vouched = run_json("doctor", code=0, IDENTITY_STORE=url, IDENTITY_REDIS_CONFIG_UNCHECKED="true")

    (found,) = (line for line in lines if line["check"] == "store set-up")
    assert found["result"] == "FAIL"
    assert "appendfsync" in found["advice"]
    assert "+config|get" in found["advice"]
    assert "redis_config_unchecked = true" in found["advice"]
    (found,) = (line for line in vouched if line["check"] == "store set-up")
    assert found["result"] == "warn"


def test_it_is_not_served_from_either(run: Run, server: RedisServer) -> None:
    ask(server.port, b"ACL SETUSER guarded on >pw ~* &* +@all -config\r\n")

    served = run("serve", code=1, IDENTITY_STORE=f"redis://guarded:pw@127.0.0.1:{server.port}/0")

    assert "+config|get" in served.stderr
    assert "redis_config_unchecked = true" in served.stderr


def test_it_names_an_unreachable_redis(run_json: Callable[..., Any], server: RedisServer) -> None:
    url = server.url
    server.stop()
    lines = run_json("doctor", code=1, IDENTITY_STORE=url)
    assert [line["result"] for line in lines if line["check"] == "store"] == ["FAIL"]


def test_it_warns_if_slow_clients_hold_threads_with_this_grpcio(
    run: Run, run_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init")
    assert [line for line in run_json("doctor") if line["check"] == "grpcio"] == []
    monkeypatch.setattr("identity_service.cli.doctor.why_not", lambda: "TypeError with grpcio 9.9")

    (found,) = (line for line in run_json("doctor") if line["check"] == "grpcio")
    envoy = run_json("doctor", IDENTITY_ENGINE="envoy")

    assert found["result"] == "warn"
    assert found["advice"].startswith("TypeError with grpcio 9.9: slow clients occupy threads")
    assert [line for line in envoy if line["check"] == "grpcio"] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", "is a directory"),
        ("diary", "not a database"),
        ("nothing", "run `identity init`"),
        ("nothing/more", "run `identity init`"),
    ],
)
def test_a_path_that_was_mistyped_is_refused_and_nothing_there_is_changed(
    run_json: Callable[..., Any], tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "diary").write_text("dear diary\n" * 100)
    for path, mode in (("folder", 0o755), ("diary", 0o644)):
        (tmp_path / path).chmod(mode)
    before = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}

    lines = run_json("doctor", code=1, IDENTITY_STORE=f"sqlite:///{tmp_path}/{name}")

    (store,) = (line for line in lines if line["check"] == "store")
    assert store["result"] == "FAIL"
    assert said in store["advice"]
    assert {path.name: path.stat().st_mode for path in tmp_path.iterdir()} == before


def test_it_names_the_keys_that_the_master_key_does_not_open(
    run: Run, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    """A key that is not in use yet is named too: with it in the store, no process starts."""
    run("init")
    (line,) = (line for line in run_json("doctor") if line["check"] == "keys")
    assert (line["result"], line["advice"]) == ("ok", "6 keys, the master key opens all")
    store = SqliteStore.open(str(tmp_path / "identity.db"), clock=SystemClock())
    refresh = [k for k in store.records.list_of(StoredKey) if k.record.purpose is KeyPurpose.REFRESH]
    found = max(refresh, key=lambda key: key.record.activate_time)
    standby = found.record
    sealed = Sealer(Secret("another master key, which is long enough too")).seal("{}", standby.key_id)
    store.records.update(replace(standby, sealed=sealed), expected=found.revision)
    store.close()

    (line,) = (line for line in run_json("doctor", code=1) if line["check"] == "keys")

    assert line["result"] == "FAIL"
    assert f"does not open 1 of 6 keys: {standby.key_id} (refresh); set master_key_file" in line["advice"]


def test_it_warns_of_a_process_that_is_silent_but_not_of_one_that_was_stopped(
    run: Run, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    run("init")
    clock = FakeClock(SystemClock().now() - timedelta(minutes=1))
    with closing(SqliteStore.open(str(tmp_path / "identity.db"), clock=clock)) as store:
        store.log.heartbeat("killed", status=FRESH)
        store.log.heartbeat("stopped", status=ENDED)

    found = {line["check"]: line for line in run_json("doctor") if line["check"].startswith("process")}

    assert found.keys() == {"process killed"}
    assert found["process killed"]["result"] == "warn"


def test_it_names_the_target_of_a_moved_store(run: Run, run_json: Callable[..., Any], tmp_path: Path) -> None:
    run("init")
    store = SqliteStore.open(str(tmp_path / "identity.db"), clock=SystemClock())
    store.copying.fence(Fence(target="redis://other.example:6379/0", epoch=Epoch("e1")))
    store.close()

    (line,) = (line for line in run_json("doctor", code=1) if line["check"] == "initialised")
    served = run("serve", code=4)

    assert line["result"] == "FAIL"
    for text in (line["advice"], served.stderr):
        assert "this store was moved to redis://other.example:6379/0" in text
        assert "set the service's `store` to that URL" in text


def test_a_copy_that_was_not_finished_is_named_and_nothing_starts_on_it(
    run: Run, run_json: Callable[..., Any], server: RedisServer
) -> None:
    def items() -> Iterator[CopiedItem]:
        yield CopiedUse(key="jti", until=SystemClock().now())
        raise EOFError

    store = RedisStore.connect(server.url)
    with pytest.raises(EOFError):
        store.copying.write_copy(items(), Epoch("e1"), replace=False)
    store.close()

    started = [run(command, code=4, IDENTITY_STORE=server.url).stderr for command in ("init", "serve")]
    (line,) = (
        line
        for line in run_json("doctor", code=1, IDENTITY_STORE=server.url)
        if line["check"] == "initialised"
    )

    assert line["result"] == "FAIL"
    for text in (*started, line["advice"]):
        assert "was not finished: run it again (`identity restore FILE --replace`" in text


@pytest.fixture
def trust(run: Run, tmp_path: Path) -> Callable[..., None]:
    """Trust an issuer, as an administrator does with a running service."""
    run("init")

    def trust(issuer: str, **keys: str) -> None:
        store = SqliteStore.open(str(tmp_path / "identity.db"), clock=SystemClock())
        rule = TrustRule(claims={"sub": "x"}, client_id=PrincipalId("x"))
        store.records.create(TrustedIssuer(issuer=issuer, rules=(rule,), **keys))  # type: ignore[arg-type]
        store.close()

    return trust


def test_it_reads_the_keys_of_each_issuer(
    trust: Callable[..., None], run_json: Callable[..., Any], tmp_path: Path
) -> None:
    good, odd = PartyKey.make("RS256", "good").public(), {"kty": "XYZ", "kid": "odd\x1b"}
    path = tmp_path / "keys.json"
    path.write_text(key_set(odd))
    with IssuerServer(body=key_set(good, odd).encode()) as server:
        trust("https://a.example", jwks_uri=server.url)
        trust("https://b.example", jwks_file=str(path))
        trust("https://c.example", jwks=key_set(good))
        trust("https://d.example", jwks_file="/no/such/file")
        lines = [line for line in run_json("doctor", code=1) if line["check"] == "issuer"]
    trust("https://e.example", jwks_uri=server.url)
    lines += [line for line in run_json("doctor", code=1) if "//e" in line["advice"]]

    assert [line["result"] for line in lines] == ["ok", "FAIL", "ok", "FAIL", "FAIL"]
    why = "it is not for an accepted algorithm: ES256, ES384, EdDSA, RS256, PS256"
    assert [line["advice"] for line in lines[:4]] == [
        f"https://a.example: 1 key, 1 not used: odd\x1b: {why}",
        f"https://b.example: 0 keys, 1 not used: odd\x1b: {why}",
        "https://c.example: 1 key",
        "https://d.example: /no/such/file cannot be read: No such file or directory",
    ]
    assert lines[4]["advice"].startswith(
        "https://e.example: its keys cannot be read: the server cannot be reached"
    )


def test_it_warns_of_an_issuer_with_a_spelling_of_the_own_name(
    trust: Callable[..., None], run_json: Callable[..., Any]
) -> None:
    keys = key_set(PartyKey.make("ES256").public())
    for name in ("https://Own.example/", "https://other.example"):
        trust(name, jwks=keys)

    lines = [
        line
        for line in run_json("doctor", IDENTITY_ISSUER="https://own.example")
        if line["check"] == "issuer"
    ]

    assert [(line["result"], line["advice"]) for line in lines] == [
        (
            "warn",
            "https://Own.example/: is not trusted, since it is this service's own name (`issuer`: "
            "https://own.example); run `identity issuer delete https://Own.example/`",
        ),
        ("ok", "https://other.example: 1 key"),
    ]


def test_it_warns_of_an_issuer_with_a_former_name_of_the_service(
    trust: Callable[..., None], run_json: Callable[..., Any]
) -> None:
    trust("https://Own.example/", jwks=key_set(PartyKey.make("ES256").public()))

    lines = run_json("doctor", IDENTITY_ISSUER="new", IDENTITY_ACCEPTED_ISSUERS="https://own.example")

    (found,) = (line["advice"] for line in lines if line["check"] == "issuer")
    assert "this service's own name (`accepted_issuers`: https://own.example)" in found


def test_it_counts_the_issuers_that_it_did_not_ask(
    trust: Callable[..., None], run_json: Callable[..., Any]
) -> None:
    for number in range(22):
        trust(f"https://{number:02}.example", jwks=key_set(PartyKey.make("ES256").public()))

    lines = [line for line in run_json("doctor") if line["check"] == "issuer"]

    assert [line["result"] for line in lines] == ["ok"] * 20 + ["warn"]
    assert "the keys of 2 more issuers were not read" in lines[-1]["advice"]


def test_it_reports_a_token_for_fetching_that_cannot_be_read(
    trust: Callable[..., None], run_json: Callable[..., Any], tmp_path: Path
) -> None:
    trust("https://a.example", jwks_uri="https://a.example/keys")
    entry = [{"url": "https://a.example", "token_file": str(tmp_path / "token")}]

    (line,) = (
        line
        for line in run_json("doctor", code=1, IDENTITY_JWKS_SERVERS=json.dumps(entry))
        if line["check"] == "issuers"
    )

    assert line["advice"].startswith("jwks_servers: token_file of https://a.example: ")
