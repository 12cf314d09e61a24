"""`identity client` with a running service."""

import json
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from identity_client import DecryptionKey
from identityapi.v1 import principal_pb2
from tests.cli.conftest import Run, RunJson, Served
from tests.cli.samples import JWK


def test_a_client_is_created_shown_listed_disabled_and_deleted(admin: Run, admin_json: RunJson) -> None:
    made = admin_json(
        "client", "create", "reports", "-a", "api", "-s", "read", "-s", "write", "--max-lifetime", "60"
    )
    shown = admin_json("client", "show", "reports")

    assert set(shown) == set(principal_pb2.Client.DESCRIPTOR.fields_by_name)
    assert made["client_secret"].startswith("idcs_")
    assert made["client_secret"] not in str(shown)
    assert (shown["audiences"], shown["scopes"]) == (["api"], ["read", "write"])
    assert (shown["max_lifetime"], shown["secrets"], shown["disabled"]) == (60.0, 1, False)
    assert {"admin", "first-party", "reports"} <= {row["client_id"] for row in admin_json("client", "list")}
    admin("client", "disable", "reports")
    assert admin_json("client", "show", "reports")["disabled"] is True
    admin("client", "disable", "reports", "--enable")
    assert admin_json("client", "show", "reports")["disabled"] is False
    admin("client", "delete", "reports", code=1, stdin="n\n")
    admin("client", "delete", "reports", "--yes")
    gone = admin("client", "show", "reports", "--json", code=1)
    assert json.loads(gone.stdout)["reason"] == "NOT_FOUND"
    assert "reports: there is no such client" in admin("client", "show", "reports", code=1).stderr


def test_a_secret_is_shown_once_and_works(admin: Run, admin_json: RunJson, served: Served) -> None:
    printed = admin("client", "create", "printed", "-a", "api")
    secret = printed.stdout.split()[-1]

    assert "not shown again" in printed.stderr
    with served.running.client() as client:
        assert client.issue_with_secret("printed", secret).access_token


def test_a_secret_is_rotated_with_an_overlap(admin: Run, admin_json: RunJson) -> None:
    first = admin_json("client", "create", "rotated")["client_secret"]
    second = admin_json("client", "rotate-secret", "rotated", "--overlap", "60")["client_secret"]

    assert first != second
    assert admin_json("client", "show", "rotated")["secrets"] == 2
    admin("client", "rotate-secret", "rotated")
    assert admin_json("client", "show", "rotated")["secrets"] == 1
    assert "public" in admin("client", "rotate-secret", "first-party", code=1).stderr
    assert "30 days" in admin("client", "rotate-secret", "rotated", "--overlap", "9999999", code=1).stderr


def test_a_public_client_only_signs_people_in(admin_json: RunJson) -> None:
    assert admin_json("client", "create", "kiosk", "--public") == {"client_id": "kiosk"}
    assert admin_json("client", "show", "kiosk")["grants"] == ["password", "refresh_token"]


def test_a_client_may_prove_itself_in_other_ways(admin_json: RunJson, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(JWK))
    (tmp_path / "set.json").write_text(json.dumps({"keys": [JWK | {"kid": "k2"}]}))
    made = admin_json(
        *("client", "create", "bound", "--no-secret", "--require-binding"),
        *("--certificate", "spiffe://example.org/bound", "--certificate", "dns:bound.example"),
        *("--public-key", "one.json", "--public-key", "set.json"),
        *("--exchange-audience", "api", "--grant", "client_credentials", "--grant", "token_exchange"),
        *("--on-reuse", "refuse", "--name", "Bound"),
    )
    shown = admin_json("client", "show", "bound")

    assert made == {"client_id": "bound"}
    assert shown["certificates"] == ["dns:bound.example", "spiffe://example.org/bound"]
    assert [key["kid"] for key in shown["public_keys"]] == ["k1", "k2"]
    assert (shown["require_binding"], shown["exchange_audiences"]) == (True, ["api"])
    assert (shown["on_reuse"], shown["display_name"], shown["secrets"]) == ("refuse", "Bound", 0)
    assert shown["grants"] == ["client_credentials", "token_exchange"]


def test_tokens_for_a_client_are_encrypted_to_the_key_in_a_file(
    admin: Run, admin_json: RunJson, tmp_path: Path
) -> None:
    key = DecryptionKey(ECKey.generate_key("P-256").as_dict(private=True))
    (tmp_path / "key.jwk").write_text(key.public_jwk())
    (tmp_path / "two.jwks").write_text(json.dumps({"keys": [{}, {}]}))
    admin_json("client", "create", "files", "--no-secret", "--encryption-key", "key.jwk")
    assert admin_json("client", "show", "files")["encryption_key"]["kid"] == key.key_id
    assert "holds 2 keys" in admin("client", "update", "files", "--encryption-key", "two.jwks", code=2).stderr

    taken = admin_json("client", "update", "files", "--encryption-key", "")

    assert taken["encryption_key"] is None


def test_an_update_changes_only_the_given_fields(admin: Run, admin_json: RunJson) -> None:
    admin(
        "client", "create", "changed", "-a", "api", "-s", "read", "--max-lifetime", "60", "--require-binding"
    )
    changed = admin_json("client", "update", "changed", "-s", "write", "--max-lifetime", "0")

    assert (changed["scopes"], changed["audiences"], changed["max_lifetime"]) == (["write"], ["api"], None)
    assert changed["require_binding"] is True
    emptied = admin_json("client", "update", "changed", "-a", "", "--no-require-binding")
    assert (emptied["audiences"], emptied["require_binding"], emptied["scopes"]) == ([], False, ["write"])
    stale = admin("client", "update", "changed", "--name", "x", "--etag", changed["etag"], code=1)
    assert "changed since" in stale.stderr
    admin("client", "update", "changed", code=2)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("-x",), ""),
        (("a b",), "client_id"),
        (("u_taken",), "client_id"),
        (("x", "-a", "with space"), "audiences"),
        (("x", "-s", 'quo"te'), "scopes"),
        (("x", "-s", "identity.root"), "scopes"),
        (("x", "--public", "--grant", "password", "--grant", "client_credentials"), "grants"),
        (("x", "--certificate", "nothing"), "certificates"),
        (("admin",), "ALREADY_EXISTS"),
    ],
)
def test_a_client_that_cannot_be_is_refused_by_field(admin: Run, words: tuple[str, ...], named: str) -> None:
    result = admin("client", "create", *words, "--json", code=1 if named else 2)

    assert named in result.output


def test_a_file_that_holds_no_key_is_named(admin: Run, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("-----BEGIN")

    assert "key.pem: is not JSON" in admin("client", "create", "x", "--public-key", "key.pem", code=2).stderr
    assert "none.json" in admin("client", "create", "x", "--public-key", "none.json", code=2).stderr


def test_a_list_may_be_cut_short(admin: Run, admin_json: RunJson) -> None:
    for name in ("l1", "l2", "l3"):
        admin("client", "create", name)

    assert [row["client_id"] for row in admin_json("client", "list", "--limit", "1")] == ["admin"]
    assert "l3" in admin("client", "list").stdout
