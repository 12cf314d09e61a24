"""`identity apply` changes the service's records to what a file declares; a service can do so itself."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, RunJson, Served
from tests.e2e.process import Installation
from tests.patience import until

FILE = """
clients:
  {name}:
    audiences: [api]
    scopes: [read]
    secret: true
users:
  {name}-user: {{audiences: [api]}}
trusted_issuers:
  https://{name}.example:
    jwks_uri: https://{name}.example/jwks
    rules: [{{claims: {{repository: shop}}, client_id: {name}}}]
"""


def write(text: str) -> None:
    Path("p.yaml").write_text(text)


def test_a_file_becomes_true_and_stays_so(admin: Run, admin_json: RunJson, served: Served) -> None:
    write(FILE.format(name="one"))

    done = admin_json("apply", "-f", "p.yaml")
    again = admin_json("apply", "-f", "p.yaml")

    assert [(change["action"], change["kind"], change["name"]) for change in done["changes"]] == [
        ("create", "client", "one"),
        ("create", "user", "one-user"),
        ("create", "trusted_issuer", "https://one.example"),
    ]
    assert (again["changes"], again["secrets"], again["refused"]) == ([], {}, [])
    with served.running.client() as client:
        assert client.issue_with_secret("one", done["secrets"]["one"]).scopes == ("read",)
    assert admin("apply", "-f", "p.yaml").stdout == "nothing to do\n"


def test_a_dry_run_shows_the_difference_and_changes_nothing(admin: Run, admin_json: RunJson) -> None:
    write(FILE.format(name="two"))
    shown = admin("apply", "-f", "p.yaml", "--dry-run", code=5)
    assert "+ client two (gets a secret)" in shown.stdout
    assert "idcs_" not in shown.output
    admin("client", "show", "two", code=1)

    admin("apply", "-f", "p.yaml")
    admin("apply", "-f", "p.yaml", "--dry-run", code=0)
    admin("client", "update", "two", "-s", "write", "--max-lifetime", "60")
    differing = admin("apply", "-f", "p.yaml", "--dry-run", code=5)

    assert differing.stdout.split("\n") == [
        "~ client two",
        '    scopes: ["write"] → ["read"]',
        "    max_lifetime: 60 → null",
        "",
    ]
    fields = admin_json("apply", "-f", "-", "--dry-run", stdin=FILE.format(name="two"), code=5)["changes"]
    assert fields[0]["fields"]["scopes"] == {"before": ["write"], "after": ["read"]}


def test_pruning_asks_for_confirmation_and_spares_its_caller(admin: Run, admin_json: RunJson) -> None:
    secret = admin_json("client", "create", "pruner", "-a", "identity-service", "-s", "identity.admin")
    admin("client", "create", "leftover")
    user = admin_json("user", "create", "stays", "--no-password")
    write("clients: {kept: }")
    as_pruner = {"IDENTITY_CLIENT_ID": "pruner", "IDENTITY_CLIENT_SECRET": secret["client_secret"]}

    assert "- client leftover" not in admin("apply", "-f", "p.yaml", "--dry-run", code=5).stdout
    asked = admin("apply", "-f", "p.yaml", "--prune", stdin="n\n", code=1, **as_pruner)
    assert "- client leftover" in asked.stdout
    admin("client", "show", "leftover")
    admin("apply", "-f", "p.yaml", "--prune", "--yes", **as_pruner)

    left = {row["client_id"] for row in admin_json("client", "list")}
    assert left == {"admin", "first-party", "kept", "pruner"}
    assert admin_json("user", "show", user["user_id"])["username"] == "stays"


def test_a_file_that_is_wrong_changes_nothing_and_names_all_of_it(admin: Run) -> None:
    write("clients:\n  good: {}\n  bad: {scope: [read]}\nuser: {}")

    result = admin("apply", "-f", "p.yaml", "--json", code=1)

    assert result.stderr.split("\n")[:2] == [
        "identity: p.yaml:3: clients.bad.scope: is not known; did you mean scopes?",
        "identity: p.yaml:4: user: is not known; did you mean users?",
    ]
    assert "p.yaml:3" in json.loads(result.stdout)["error"]
    admin("client", "show", "good", code=1)
    assert "none.yaml" in admin("apply", "-f", "none.yaml", code=2).stderr


def test_refused_records_are_named_and_new_secrets_are_still_printed(admin: Run, admin_json: RunJson) -> None:
    admin("client", "create", "holder", "--certificate", "dns:held.example")
    write("clients: {a1: {certificates: ['dns:held.example']}, b1: {secret: true}}")

    done = json.loads(admin("apply", "-f", "p.yaml", "--json", code=1).stdout)

    assert [line.split(":")[0] for line in done["refused"]] == ["client a1"]
    assert done["secrets"]["b1"].startswith("idcs_")


def test_a_caller_without_the_admin_scope_may_not_apply(
    run: Run, admin_json: RunJson, served: Served
) -> None:
    made = admin_json("client", "create", "weak", "-a", "identity-service", "-s", "identity.verify")
    write(FILE.format(name="three"))

    env = {"IDENTITY_CLIENT_ID": "weak", "IDENTITY_CLIENT_SECRET": made["client_secret"]}
    run("apply", "-f", "p.yaml", "--target", served.target, code=3, **env)


# The same file, kept by the service


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    file = tmp_path / "principals.yaml"
    file.write_text("clients: {first: }")
    installation = Installation(
        folder=tmp_path,
        store=f"sqlite:///{tmp_path / 'identity.db'}",
        environment={"IDENTITY_PRINCIPALS_FILE": str(file)},
        forked=True,
    )
    installation.init()
    return installation


def test_the_service_keeps_the_records_as_declared_in_its_file(installation: Installation) -> None:
    file = installation.folder / "principals.yaml"
    with installation.serve() as one, installation.serve() as two:
        assert "first" in {row["client_id"] for row in one.json("client", "list")}
        file.write_text("clients: {first: {scopes: [read]}, second: {secret: true}}")
        until(lambda: installation.log.count("principals_applied") == 4)
        assert two.json("client", "show", "first")["scopes"] == ["read"]

        file.write_text("clients: {first: {scopes: [write]}, third: {x: 1}}")
        until(lambda: installation.log.count("principals_refused") == 2)
        assert "clients.third.x: is not known" in installation.log
        assert one.json("client", "show", "first")["scopes"] == ["read"]
        secret = one.json("client", "rotate-secret", "second")["client_secret"]
    assert installation.log.count("client_secret_unseen") == 1
    assert secret not in installation.log


def test_the_service_does_not_start_with_a_file_that_is_wrong(installation: Installation) -> None:
    (installation.folder / "principals.yaml").write_text("clients: {a b: , c: {x: 1}, d: {scopes: [1]}}")

    done = installation.run("serve", "--listen", "127.0.0.1:0")

    assert done.returncode == 1
    assert "clients.c.x: is not known" in done.stderr
    assert "clients.d.scopes[0]: must be text" in done.stderr
    assert "Traceback" not in done.stderr
