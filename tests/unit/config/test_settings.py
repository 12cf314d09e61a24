"""Settings: the sources of their values, and the values and combinations that are refused."""

import json
import pickle
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from identity_service.config.sources import CLIENT_VARIABLES, load_settings
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.urls import is_loopback
from identity_service.settings import Settings

SECRET = "a secret that no message may show, ever"


def refused(environ: Mapping[str, str] = {}, **flags: object) -> str:  # never changed
    with pytest.raises(ConfigurationError) as error:
        load_settings(flags, environ=environ)
    assert SECRET not in str(error.value)
    return str(error.value)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    """Flags win over the environment, the environment over the file, and the file over the defaults."""
    file = tmp_path / "other.toml"
    file.write_text('leeway = "1s"\nissuer = "file"\nlisten = "127.0.0.1:1"\n')

    loaded = load_settings(
        {"listen": "127.0.0.1:3", "store": None},
        config_file=file,
        environ={"IDENTITY_ISSUER": "environment", "IDENTITY_LISTEN": "127.0.0.1:2", "HOME": "x"},
    )

    settings = loaded.settings
    assert (settings.leeway, settings.issuer, settings.listen) == (
        timedelta(seconds=1),
        "environment",
        "127.0.0.1:3",
    )
    assert settings.store == "sqlite:///var/identity.db"
    wanted = {
        "leeway": str(file),
        "issuer": "IDENTITY_ISSUER",
        "listen": "flag --listen",
        "store": "default",
    }
    assert {name: loaded.sources[name] for name in wanted} == wanted


def test_the_file_beside_is_read_and_the_environment_may_name_another(tmp_path: Path) -> None:
    Path("identity.toml").write_text('issuer = "beside"')
    (tmp_path / "named.toml").write_text('issuer = "named"')

    assert load_settings(environ={}).settings.issuer == "beside"
    assert load_settings(environ={"IDENTITY_CONFIG": "named.toml"}).settings.issuer == "named"


def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path) -> None:
    assert "did you mean leeway" in refused({"IDENTITY_LEWAY": "1s"})
    assert "IDENTITY_LEWAY" in refused({"IDENTITY_LEWAY": "1s"})
    Path("identity.toml").write_text("max_stalenes = 5")
    assert "did you mean max_staleness" in refused()
    Path("identity.toml").write_text("zzzzzz = 5")
    assert "identity config show" in refused()


def test_the_variables_of_the_command_line_are_no_settings() -> None:
    assert load_settings(environ=dict.fromkeys(CLIENT_VARIABLES - {"IDENTITY_CONFIG"}, "x")).settings.store


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("5m", 300), ("1.5s", 1.5), ("0s", 0), ("7", 7)]
)
def test_durations_are_written_with_a_unit_or_in_seconds(text: str, seconds: float) -> None:
    settings = load_settings(environ={"IDENTITY_LEEWAY": text}).settings

    assert settings.leeway == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "x", "5 parsecs", "-1s", "1e400s", "s", "nan", "P1D", f"{9**99}d"])
def test_a_text_that_is_no_duration_is_refused(text: str) -> None:
    assert "leeway" in refused({"IDENTITY_LEEWAY": text})


@pytest.mark.parametrize("text", ["inf", "nan", "true", "[1]", "-1", "100000000000000000000"])
def test_a_value_that_is_no_duration_is_refused_in_a_file_too(text: str) -> None:
    """A TOML file may contain values that are no text, such as infinity."""
    Path("identity.toml").write_text(f"leeway = {text}")

    assert "leeway: must be" in refused()


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_a_file_that_the_parser_fails_on_is_refused(value: str) -> None:
    Path("identity.toml").write_text(f"leeway = {value}")

    assert refused() == "identity.toml: cannot be read: has too long a number, or is nested too deeply"


def test_every_field_that_is_wrong_has_a_line_with_its_source() -> None:
    lines = refused({"IDENTITY_LEEWAY": "6m"}, refresh_grace="2h").splitlines()

    assert lines == [
        "leeway: must be from 0s to 5m (from IDENTITY_LEEWAY)",
        "refresh_grace: must be from 0s to 1h (from flag --refresh-grace)",
    ]


def test_all_settings_that_contradict_each_other_are_reported_at_once() -> None:
    environ = {
        "IDENTITY_HEARTBEAT_INTERVAL": "10s",
        "IDENTITY_MASTER_KEY": SECRET,
        "IDENTITY_STRONG_LIMIT": "9",
    }
    lines = refused(environ, listen="0.0.0.0:1", master_key_file="key").splitlines()

    assert [line.partition(":")[0] for line in lines] == [
        "max_staleness",
        "master_key",
        "listen",
        "strong_limit",
    ]


@pytest.mark.parametrize(
    "store",
    [
        "redis+sentinel://user:pw@a:26379,b:26379/identity/0",
        "rediss+sentinel://a/identity",
        "redis+cluster://a:7000,b:7001",
        "rediss://a:6380/0?ssl_ca_certs=ca.pem",
    ],
)
def test_every_way_to_redis_is_offered_with_replicas(store: str) -> None:
    settings = load_settings(environ={"IDENTITY_STORE": store, "IDENTITY_DURABILITY": "replicas:2"}).settings

    assert settings.store == store
    assert settings.durability == "replicas:2"
    assert "pw" not in settings.masked()["store"]


def test_an_embedded_store_has_no_replicas() -> None:
    assert "durability" in refused({"IDENTITY_DURABILITY": "replicas:1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("access_token_lifetime", "25h"),
        ("access_token_lifetime", "0s"),
        ("max_access_token_lifetime", "25h"),
        ("session_lifetime", "1s"),
        ("leeway", "6m"),
        ("refresh_grace", "61m"),
        ("heartbeat_interval", "1ms"),
        ("max_staleness", "2h"),
        ("drain_grace", "11m"),
        ("max_connection_age", "0s"),
        ("listen", "nowhere"),
        ("listen", "127.0.0.1:99999"),
        ("listen", "0.0.0.0:50051"),
        ("store", "postgres://x"),
        ("store", "sqlite:///"),
        ("store", "redis+sentinel://a:1,b:x/service"),
        ("store", "redis+other://a"),
        ("algorithm", "none"),
        ("durability", "replicas:0"),
        ("on_stale", "guess"),
        ("verify_threads", "0"),
        ("issuer", ""),
        ("log_level", "loud"),
        ("max_message_bytes", "1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    assert name in refused({f"IDENTITY_{name.upper()}": value})


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"ACCESS_TOKEN_LIFETIME": "2h", "MAX_ACCESS_TOKEN_LIFETIME": "1h"}, "access_token_lifetime"),
        ({"HEARTBEAT_INTERVAL": "2s", "MAX_STALENESS": "4s"}, "max_staleness"),
        ({"MASTER_KEY": SECRET, "MASTER_KEY_FILE": "key"}, "master_key"),
        ({"STRONG_LIMIT": "4", "VERIFY_THREADS": "4"}, "strong_limit"),
        ({"PASSWORD_QUEUE": "100", "WORK_THREADS": "16"}, "work_threads"),
        ({"ARGON2_MEMORY_KIB": "31", "ARGON2_PARALLELISM": "4"}, "argon2_memory_kib"),
    ],
)
def test_values_that_do_not_go_together_are_refused(environ: dict[str, str], named: str) -> None:
    assert named in refused({f"IDENTITY_{name}": value for name, value in environ.items()})


def test_it_listens_beyond_loopback_only_with_insecure() -> None:
    assert "--insecure" in refused(listen="0.0.0.0:50051")
    assert load_settings({"listen": "0.0.0.0:50051", "insecure": True}, environ={}).settings.insecure


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("example.org:1", False),
        (":1", False),
    ],
)
def test_loopback_is_this_machine_only(listen: str, loopback: bool) -> None:
    assert is_loopback(listen) is loopback


def test_pickled_settings_contain_the_values_that_were_set_and_no_defaults() -> None:
    """A worker that is restarted during an upgrade may have more settings than its supervisor."""
    settings = Settings(listen="127.0.0.1:1", master_key=SecretStr("k" * 32), leeway=timedelta(seconds=3))

    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301  # our own
    assert b"heartbeat_interval" not in pickle.dumps(settings)


def test_lists_come_from_the_environment_separated_by_commas_or_spaces() -> None:
    settings = load_settings(environ={"IDENTITY_KNOWN_SCOPES": "read,write  admin"}).settings

    assert settings.known_scopes == ("read", "write", "admin")


def test_former_issuers_are_names_as_the_issuer_is() -> None:
    settings = load_settings(environ={"IDENTITY_ACCEPTED_ISSUERS": "https://a.example b"}).settings

    assert settings.issuer_names.all == ("identity-service", "https://a.example", "b")
    for wrong in ([""], ["x" * 257], ["x"] * 17):
        assert "accepted_issuers" in refused(accepted_issuers=wrong)


def test_values_are_shown_as_they_are_written() -> None:
    masked = Settings(known_scopes=("read", "write"), leeway=timedelta(seconds=1.5)).masked()

    assert (masked["known_scopes"], masked["leeway"], masked["master_key"]) == ("read write", "1.5s", "")


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("content", ["issuer = ", "\x00", "[issuer"])
def test_a_file_that_is_no_toml_is_refused_by_name(content: str) -> None:
    Path("identity.toml").write_text(content)

    assert "identity.toml" in refused()


def test_a_file_that_is_no_text_is_refused_by_name() -> None:
    Path("identity.toml").write_bytes(b'issuer = "\xff"')

    assert refused() == "identity.toml: must be UTF-8 text"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('verify_threads = "x"', "must be a whole number"),
        ("verify_threads = 1.5", "must be a whole number"),
        ("verify_threads = 0", "must be at least 1"),
        ("verify_threads = 65", "must be at most 64"),
        ('insecure = "maybe"', "must be true or false"),
        ('issuer = ""', "must have at least 1 characters"),
        ("issuer = 5", "must be text"),
        ("master_key = [5]", "must be text"),
        ("master_key_file = 5", "must be the path of a file"),
        ("known_scopes = 5", "must be a list of texts"),
        ("known_scopes = [5]", "must be text"),
        ('on_stale = "guess"', "must be 'refuse' or 'serve'"),
    ],
)
def test_a_wrong_value_is_described_in_plain_words(line: str, expected: str) -> None:
    Path("identity.toml").write_text(line)

    assert refused() == f"{line.partition(' ')[0]}: {expected} (from identity.toml)"


def test_each_setting_of_a_combination_names_its_source() -> None:
    Path("identity.toml").write_text("envoy_memory = 5\n")

    assert refused({"IDENTITY_MTLS_LISTEN": "127.0.0.1:1"}).split("\n") == [
        "mtls_listen: needs tls_client_ca, the authorities of the certificates that it requires "
        "(from IDENTITY_MTLS_LISTEN)",
        "envoy_memory: must be 0, or at least 134217728 (128 MiB) (from identity.toml)",
    ]


def test_large_bounds_are_readable() -> None:
    assert "must be at most 1,000,000 " in refused({"IDENTITY_MAX_CALLS": "1000001"})


def test_a_file_that_is_named_must_exist() -> None:
    assert "no such file" in refused({"IDENTITY_CONFIG": "missing.toml"})
    with pytest.raises(ConfigurationError, match="no such file"):
        load_settings(config_file=Path("missing.toml"), environ={})


def test_the_variables_that_kubernetes_sets_for_a_service_are_no_settings() -> None:
    environ = {
        "IDENTITY_SERVICE_HOST": "10.0.0.7",
        "IDENTITY_SERVICE_PORT": "50051",
        "IDENTITY_SERVICE_PORT_GRPC": "50051",
        "IDENTITY_PORT": "tcp://10.0.0.7:50051",
        "IDENTITY_PORT_50051_TCP_ADDR": "10.0.0.7",
        "IDENTITY_SERVICE_SERVICE_HOST": "10.0.0.7",
        "IDENTITY_SERVICE_PORT_50051_TCP": "tcp://10.0.0.7:50051",
    }

    assert load_settings(environ=environ).settings == load_settings(environ={}).settings


def test_the_variables_that_azure_sets_for_a_managed_identity_are_no_settings() -> None:
    """App Service sets `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`, Container Instances all four variables."""
    environ = {
        "IDENTITY_ENDPOINT": "http://169.254.255.2:8081/msi/token",
        "IDENTITY_HEADER": "69f7bd30-0d09-4e5e-8f6a-4f2a8b9d1c3e",
        "IDENTITY_SERVER_THUMBPRINT": "99d5c3f1a8a94d8e9f4b0c6d7e8f9a0b1c2d3e4f",
        "IDENTITY_API_VERSION": "2020-05-01",
    }

    assert load_settings(environ=environ).settings == load_settings(environ={}).settings


MANY = json.dumps([{"url": f"https://host{number}", "ca_file": "/ca"} for number in range(101)])


class TestJwksServers:
    ENTRY = '{"url": "https://Kubernetes.default.svc", "ca_file": "/ca.crt", "token_file": "/token"}'

    @pytest.mark.parametrize("source", ["file", "inline", "environment"])
    def test_they_come_from_a_file_or_as_json_from_the_environment(self, source: str) -> None:
        environ = {}
        if source == "environment":
            environ["IDENTITY_JWKS_SERVERS"] = f"[{self.ENTRY}]"
        elif source == "inline":
            inline = self.ENTRY.replace('":', '" =')
            Path("identity.toml").write_text(f"jwks_servers = [{inline}]")
        else:
            lines = self.ENTRY.strip("{}").replace('":', '" =').replace(", ", "\n")
            Path("identity.toml").write_text(f"[[jwks_servers]]\n{lines}\n")

        (server,) = load_settings(environ=environ).settings.jwks_servers

        assert (server.url, server.ca_file, server.token_file) == (
            "https://Kubernetes.default.svc",
            Path("/ca.crt"),
            Path("/token"),
        )

    def test_they_are_shown(self) -> None:
        settings = load_settings(environ={"IDENTITY_JWKS_SERVERS": f"[{self.ENTRY}]"}).settings

        assert settings.masked()["jwks_servers"] == (
            "https://Kubernetes.default.svc (ca_file /ca.crt, token_file /token)"
        )

    def test_an_empty_variable_names_no_file(self) -> None:
        assert load_settings(environ={"IDENTITY_JWKS_SERVERS": ""}).settings.jwks_servers == ()

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("{", "jwks_servers: must be a list such as"),
            ("5", "jwks_servers: must be a list such as"),
            ("{}", "jwks_servers: must be a list such as"),
            ("[5]", "jwks_servers: must be a mapping"),
            ('[{"url": "https://a"}]', "jwks_servers: must have a ca_file, a token_file or both"),
            ('[{"ca_file": "/ca"}]', "jwks_servers[0].url: is missing"),
            ('[{"url": 5, "ca_file": "/ca"}]', "jwks_servers[0].url: must be text"),
            ('[{"url": "https://a", "ca_file": 5}]', "jwks_servers[0].ca_file: must be the path of a file"),
            ('[{"url": "https://a", "ca": "/ca"}]', "jwks_servers[0].ca: is not known here"),
            ('[{"url": "http://a", "ca_file": "/ca"}]', "jwks_servers[0].url: must be https://host"),
            ('[{"url": "https://a/b", "ca_file": "/ca"}]', "jwks_servers[0].url: must be https://host"),
            ('[{"url": "https://a?b", "ca_file": "/ca"}]', "jwks_servers[0].url: must be https://host"),
            ('[{"url": "https://u:p@a", "ca_file": "/ca"}]', "jwks_servers[0].url: must be https://host"),
            ('[{"url": "https://a%61", "ca_file": "/ca"}]', "jwks_servers[0].url: must be https://host"),
            ('[{"url": "https://[v1.x]", "ca_file": "/ca"}]', "jwks_servers[0].url: must be https://host"),
            (MANY, "jwks_servers: must have at most 100 entries"),
            ('[{"url": "https://a:x", "ca_file": "/ca"}]', "jwks_servers[0].url: must be https://host"),
            (
                '[{"url": "https://a", "ca_file": "/ca"}, {"url": "https://A:443/", "token_file": "/t"}]',
                "jwks_servers: https://A:443 is listed twice",
            ),
        ],
    )
    def test_a_wrong_setting_is_named(self, text: str, expected: str) -> None:
        said = refused({"IDENTITY_JWKS_SERVERS": text})

        assert said.startswith(expected)
        assert said.endswith("(from IDENTITY_JWKS_SERVERS)")

    def test_loopback_needs_no_tls(self) -> None:
        text = '[{"url": "http://127.0.0.1:8080", "token_file": "/token"}]'

        assert load_settings(environ={"IDENTITY_JWKS_SERVERS": text}).settings.jwks_servers


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("10.0.0.0/33", "is not an address or network"),
        ("unix", "is not an address or network"),
        ("proxy.example", "is not an address or network"),
        ("10.0.0.1 0.0.0.0/0", "contains every address, so clients could choose theirs"),
        ("::/0", "contains every address, so clients could choose theirs"),
    ],
)
def test_trusted_proxies_are_networks_that_leave_room_for_clients(value: str, why: str) -> None:
    assert why in refused({"IDENTITY_TRUSTED_PROXIES": value})


def test_trusted_proxies_may_be_addresses_and_networks() -> None:
    settings = load_settings(environ={"IDENTITY_TRUSTED_PROXIES": "10.0.0.1, 2001:db8::/32"}).settings

    assert settings.trusted_proxies == ("10.0.0.1", "2001:db8::/32")


@pytest.mark.parametrize("authority", ["id.example", "id.example:8443", "[2001:db8::1]:443", "10.0.0.1:1"])
def test_an_authority_is_a_host_with_or_without_a_port(authority: str) -> None:
    settings = load_settings({"dpop_authorities": authority}, environ={}).settings

    assert settings.proof_authorities == (authority,)


@pytest.mark.parametrize(
    "authority",
    [
        *("https://id.example", "id.example/path", "user@id.example", "id.example?x", "%41"),
        *("id.example:port", "id.example:99999", ":443", "[x"),
    ],
)
def test_a_text_that_is_no_authority_is_refused(authority: str) -> None:
    message = refused(dpop_authorities=authority)

    assert "dpop_authorities: must be a host or host:port" in message
    assert "without scheme, user and path" in message


@pytest.mark.parametrize(
    "origin", ["https://app.example", "https://app.example:8443", "http://127.0.0.1:8000"]
)
def test_a_web_origin_is_a_scheme_a_host_and_a_port(origin: str) -> None:
    settings = load_settings({"web_origins": origin, "http_listen": "127.0.0.1:8080"}, environ={}).settings

    assert settings.web_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "app.example", "https://*.example", "https://app.example/", "https://App.example"),
        *("https://app.example:443", "https://user@app.example", "http://app.example", "file://app"),
    ],
)
def test_a_text_that_is_no_web_origin_is_refused(origin: str) -> None:
    assert "web_origins" in refused(web_origins=origin, http_listen="127.0.0.1:8080")


def test_web_origins_need_the_port_of_http() -> None:
    assert "web_origins: needs http_listen" in refused(web_origins="https://app.example")


@pytest.mark.parametrize(
    ("issuer", "authorities"),
    [
        ("https://id.example:8443/tenant", ("id.example:8443",)),
        ("http://127.0.0.1:8080", ()),
        ("identity-service", ()),
        ("https://", ()),
    ],
)
def test_dpop_proofs_name_the_authority_of_the_issuer_by_default(
    issuer: str, authorities: tuple[str, ...]
) -> None:
    assert load_settings({"issuer": issuer}, environ={}).settings.proof_authorities == authorities


@pytest.mark.parametrize(
    "url", ["", "http://127.0.0.1:4317", "https://collector.example:4317", "http://[::1]:4317"]
)
def test_a_collector_is_a_scheme_a_host_and_a_port(url: str) -> None:
    assert load_settings({"traces_endpoint": url}, environ={}).settings.traces_endpoint == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "127.0.0.1:4317",
            "http://127.0.0.1",
            "http://:4317",
            "http://collector:4317/v1/traces",
            "grpc://a:1",
        ),
        *(
            "http://user:hunter2@collector:4317",
            "http://collector:99999",
            "http://collector:4317?a",
            "http://[:1",
        ),
    ],
)
def test_a_text_that_names_no_collector_is_refused_and_not_shown(url: str) -> None:
    message = refused(traces_endpoint=url)

    assert "traces_endpoint: must be http://host:port" in message
    assert "hunter2" not in message
