"""Reading a principals file: its content, and errors that report all mistakes at once."""

from datetime import timedelta
from pathlib import Path

import pytest

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.issuers import ISSUER_ALGORITHMS, IssuerNames, TrustedIssuer, TrustRule
from identity_service.domain.principals import Client, Grant, OnReuse, User
from identity_service.jose.public_keys import StrictKeyChecker
from identity_service.principals import document
from identity_service.principals.file import MAX_FILE_BYTES, read_principals
from identity_service.principals.plan import Declaration, name_of

JWK = (
    '{"kty":"OKP","crv":"Ed25519","kid":"k1","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
)
ENCRYPTION_JWK = (
    '{"kty":"EC","crv":"P-256","kid":"e1","alg":"ECDH-ES",'
    '"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}'
)


def read(text: str) -> Declaration:
    return read_principals(text.encode(), "p.yaml", StrictKeyChecker())


def problems(text: str | bytes) -> list[str]:
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ConfigurationError) as error:
        read_principals(content, "p.yaml", StrictKeyChecker())
    return str(error.value).split("\n")


def test_a_whole_file_is_read() -> None:
    declaration = read(f"""
clients:
  reports:
    display_name: Reports
    grants: [client_credentials, token_exchange]
    audiences: [api]
    scopes: [read, write]
    max_lifetime: 10m
    on_reuse: refuse
    certificates: [DNS:Reports.Example]
    public_keys:
      - {JWK}
      - '{JWK.replace("k1", "k2")}'
    require_binding: true
    exchange_audiences: ["*"]
    encryption_key: {ENCRYPTION_JWK}
    secret: true
    disabled: false
users:
  ana:
    audiences: &some [api]
    scopes: [read]
  bo:
trusted_issuers:
  https://ci.example:
    jwks_uri: https://ci.example/jwks
    audiences: *some
    max_age: 3600
    rules:
      - claims: {{repository: shop/*}}
        client_id: reports
        per_subject: true
""")

    reports, ana, bo, issuer = (wanted.record for wanted in declaration.wanted)
    assert isinstance(reports, Client)
    assert reports.grants == {Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE}
    assert (reports.audiences, reports.scopes) == (frozenset({"api"}), frozenset({"read", "write"}))
    assert (reports.max_lifetime, reports.on_reuse) == (timedelta(minutes=10), OnReuse.REFUSE)
    assert reports.certificates == {"dns:reports.example"}
    assert reports.public_keys == (JWK, JWK.replace("k1", "k2"))
    assert (reports.require_binding, reports.exchange_audiences) == (True, frozenset({"*"}))
    assert reports.encryption_key == ENCRYPTION_JWK
    assert [wanted.secret for wanted in declaration.wanted] == [True, False, False, False]
    assert isinstance(ana, User)
    assert isinstance(bo, User)
    assert (ana.username, ana.audiences, ana.scopes) == ("ana", frozenset({"api"}), frozenset({"read"}))
    assert (bo.username, bo.audiences) == ("bo", frozenset())
    assert isinstance(issuer, TrustedIssuer)
    assert (issuer.issuer, issuer.jwks_uri) == ("https://ci.example", "https://ci.example/jwks")
    assert (issuer.audiences, issuer.algorithms) == (("api",), ISSUER_ALGORITHMS)
    assert issuer.max_age == timedelta(hours=1)
    rule = TrustRule(claims={"repository": "shop/*"}, client_id=reports.client_id, per_subject=True)
    assert issuer.rules == (rule,)


def test_the_example_of_the_documentation_is_such_a_file() -> None:
    page = (Path(__file__).parents[3] / "docs" / "principals-file.md").read_text(encoding="utf-8")
    example = page.split("```yaml principals.yaml\n")[1].split("```")[0]

    assert [name_of(wanted.record) for wanted in read(example).wanted] == [
        "reports",
        "billing",
        "deployer",
        "kiosk",
        "ana",
        "https://gitlab.com",
    ]


def test_only_a_file_that_speaks_of_disabled_decides_it() -> None:
    silent, spoken = read("clients: {a: , b: {disabled: false}}").wanted

    assert "disabled" not in silent.fields
    assert "disabled" in spoken.fields
    assert {"scopes", "audiences", "certificates"} <= set(silent.fields)


def test_a_kind_that_the_file_does_not_name_is_not_its_business() -> None:
    assert read("").kinds == frozenset()
    assert read("users:").kinds == frozenset()
    assert read("users: {}").kinds == {User}
    assert read("clients: {}\ntrusted_issuers: {}").kinds == {Client, TrustedIssuer}


def test_words_that_yaml_1_1_takes_for_something_else_are_texts() -> None:
    (client,) = read("clients: {a: {scopes: [no, on, 2026-01-01, 0x10, 1e3, .5, 'true']}}").wanted

    assert isinstance(client.record, Client)
    assert client.record.scopes == {"no", "on", "2026-01-01", "0x10", "1e3", ".5", "true"}


def test_everything_that_is_wrong_is_named_with_its_line() -> None:
    found = problems("""client: {}
clients:
  reports:
    audience: [api]
    scopes: [1, read]
    secret: yes
    max_lifetime: soon
    grants: [client]
    on_reuse: maybe
  reports: {}
  other: [x]
users:
  ana: {password: x}
  bo: {disabled: 1, disabled: true}
trusted_issuers:
  https://ci.example:
    jwks_uri: http://ci.example/jwks
    rules:
      - claim: {repository: shop}
        client_id: reports
        per_subject: maybe
""")

    issuer = "trusted_issuers.https://ci.example"
    assert found == [
        "p.yaml:1: client: is not known; did you mean clients?",
        "p.yaml:4: clients.reports.audience: is not known; did you mean audiences?",
        "p.yaml:5: clients.reports.scopes[0]: must be text",
        "p.yaml:6: clients.reports.secret: must be true or false",
        "p.yaml:7: clients.reports.max_lifetime: must be a duration such as 500ms, 15m, 24h or 30d",
        "p.yaml:8: clients.reports.grants[0]: must be 'client_credentials', 'password', 'refresh_token' or "
        "'token_exchange'",
        "p.yaml:9: clients.reports.on_reuse: must be 'end_session' or 'refuse'",
        "p.yaml:10: clients.reports: was defined before, in line 3",
        "p.yaml:11: clients.other: must be a mapping",
        "p.yaml:13: users.ana.password: is not known; there are display_name, audiences, scopes, disabled",
        "p.yaml:14: users.bo.disabled: was defined before, in line 14",
        "p.yaml:14: users.bo.disabled: must be true or false",
        f"p.yaml:19: {issuer}.rules[0].claims: is missing",
        f"p.yaml:19: {issuer}.rules[0].claim: is not known; did you mean claims?",
        f"p.yaml:21: {issuer}.rules[0].per_subject: must be true or false",
    ]


def test_values_have_the_bounds_that_every_administrator_meets() -> None:
    found = problems("""clients:
  "a b":
    audiences: ["x y"]
    public_keys:
      - {kty: OKP, d: secret-part}
  public:
    grants: [password, client_credentials]
  c: {certificates: ["dns:a.example"]}
  d: {certificates: ["dns:a.example"]}
users:
  Ana:
  ana: {scopes: ["*"]}
trusted_issuers:
  i:
    jwks_uri: http://ci.example/jwks
    rules: [{claims: {}, client_id: reports}]
""")

    assert [line.partition(" must ")[0].partition(" holds ")[0] for line in found[:2]] == [
        "p.yaml:2: clients.a b.client_id:",
        "p.yaml:3: clients.a b.audiences:",
    ]
    assert found[2].startswith("p.yaml:5: clients.a b.public_keys[0]:")
    assert "secret-part" not in "".join(found)
    assert found[3].startswith("p.yaml:7: clients.public.grants:")
    assert found[4:6] == [
        "p.yaml:9: clients.d.certificates: holds a certificate of c",
        "p.yaml:12: users.ana.scopes: `*` stands for what a user may have: it must be spelled out here",
    ]
    assert found[6] == "p.yaml:12: users.ana: is the same username as Ana"
    assert [line.partition(" must ")[0] for line in found[7:]] == [
        "p.yaml:15: trusted_issuers.i.jwks_uri:",
        "p.yaml:16: trusted_issuers.i.rules[0].claims:",
    ]


def test_a_client_with_a_secret_may_have_settings_that_a_public_one_may_not() -> None:
    text = "clients: {a: {grants: [password, client_credentials]%s}}"

    assert len(problems(text % "")) == 1
    assert read(text % ", secret: true").wanted[0].secret


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- a", "p.yaml:1: must be a mapping of clients, users, trusted_issuers"),
        ("text", "p.yaml:1: must be a mapping of clients, users, trusted_issuers"),
        ("clients: 1", "p.yaml:1: clients: must be a mapping"),
        ("clients:\n  a: [", "p.yaml:2: is not YAML: expected the node content, but found '<stream end>'"),
        ("clients:\n\ta: 1", "p.yaml:2: is not YAML: found character '\\t' that cannot start any token"),
        ("clients: {}\n---\nusers: {}", "p.yaml:2: is not YAML: but found another document"),
        ("users: *a", "p.yaml:1: is not YAML: found undefined alias 'a'"),
        ("users:\n  a: !!python/name:os.system x", "p.yaml:2: users.a: must not have a tag"),
        ("users: &a {b: *a}", "p.yaml:1: users.b: must not be an alias of a value that contains it"),
        ("users: {[a, b]: {}}", "p.yaml:1: users: has a key that is not one text"),
        ("clients: {a: {grants: []}}", "p.yaml:1: clients.a.grants: must have at least 1 entries"),
        (b"\xff", "p.yaml:1: must be UTF-8 text"),
        (b"users: \x00", "p.yaml:1: is not YAML: must be UTF-8 text"),
        (r'"\Uffffffff": a', r"p.yaml:1: is not YAML: has a \U or %YAML with too large a number"),
        (r'"\U00110000": a', r"p.yaml:1: is not YAML: has a \U or %YAML with too large a number"),
        (f"%YAML {'9' * 5000}.1", r"p.yaml:1: is not YAML: has a \U or %YAML with too large a number"),
        ("[" * 5000, "p.yaml:1: is nested too deeply"),
        ("[" * 51 + "]" * 51, "p.yaml:1: is nested too deeply"),
        (b"#" * (MAX_FILE_BYTES + 1), "p.yaml:1: must have at most 4 MiB"),
    ],
)
def test_a_malformed_file_is_refused(content: str | bytes, expected: str) -> None:
    assert expected in problems(content)


def test_aliases_cannot_make_a_document_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_MAX_NODES", 1000)
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9))

    assert "is too large a document" in "".join(problems(f"l0: &l0 [x]\n{levels}"))


@pytest.mark.parametrize("name", ["https://own.example", "https://Own.example:443/"])
def test_a_spelling_of_the_services_own_issuer_name_is_named_with_its_line(name: str) -> None:
    content = f"users: {{}}\ntrusted_issuers:\n  {name}:\n    jwks_uri: https://own.example/keys\n"
    content += "    rules: [{claims: {sub: x}, client_id: reports}]\n"

    assert read(content).wanted
    with pytest.raises(ConfigurationError, match=r"must not be this service's own name") as error:
        read_principals(
            content.encode(),
            "p.yaml",
            StrictKeyChecker(),
            own=IssuerNames("new", former=("https://own.example",)),
        )
    assert str(error.value).startswith("p.yaml:3: trusted_issuers.")
