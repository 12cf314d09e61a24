"""`identity issuer` with a running service."""

import json
from pathlib import Path

import pytest

from identityapi.v1 import principal_pb2
from tests.cli.conftest import Run, RunJson
from tests.cli.samples import JWK


def test_an_issuer_is_trusted_shown_listed_changed_and_trusted_no_more(
    admin: Run, admin_json: RunJson
) -> None:
    ci = "https://ci.example"
    made = admin_json(
        *("issuer", "create", ci, "--jwks-uri", f"{ci}/jwks", "-a", "deploy", "--algorithm", "ES256"),
        *("--client", "reports", "--claim", "repository=shop/api", "--claim", "ref=refs/tags/*"),
        *("--per-subject", "--single-use", "--max-age", "600"),
    )

    rule = {"claims": {"repository": "shop/api", "ref": "refs/tags/*"}, "client_id": "reports"}
    assert made["rules"] == [rule | {"per_subject": True}]
    assert (made["keys"], made["audiences"], made["algorithms"]) == (f"{ci}/jwks", ["deploy"], ["ES256"])
    assert (made["single_use"], made["max_age"]) == (True, 600.0)
    assert admin_json("issuer", "show", ci) == made
    every = set(principal_pb2.TrustedIssuer.DESCRIPTOR.fields_by_name) - {"jwks_uri", "jwks_file", "jwks"}
    assert set(made) == every | {"keys", "clients"}
    assert {"issuer": ci, "keys": f"{ci}/jwks", "clients": ["reports"]} in admin_json("issuer", "list")

    changed = admin_json("issuer", "update", ci, "--jwks-file", "/etc/ci.jwks", "--max-age", "0")
    assert (changed["keys"], changed["max_age"], changed["rules"]) == ("/etc/ci.jwks", None, made["rules"])
    again = admin("issuer", "update", ci, "--no-single-use", "--etag", made["etag"], "--json", code=1)
    assert "STALE_ETAG" in again.stdout
    admin("issuer", "update", ci, code=2)

    admin("issuer", "delete", ci, code=1, stdin="n\n")
    admin("issuer", "delete", ci, "--yes")
    assert "NOT_FOUND" in admin("issuer", "show", ci, "--json", code=1).stdout


def test_keys_and_rules_come_from_files(admin_json: RunJson, tmp_path: Path) -> None:
    rules = [{"claims": {"sub": "a"}, "client_id": "a"}, {"claims": {"sub": "b"}, "client_id": "b"}]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [JWK]}))
    (tmp_path / "rules.json").write_text(json.dumps(rules))

    made = admin_json("issuer", "create", "inline", "--jwks", "jwks.json", "--rules", "rules.json")

    assert made["keys"] == "jwks"
    assert made["rules"] == [rule | {"per_subject": False} for rule in rules]


def test_keys_that_the_service_reads_later_come_with_the_command_that_tests_them(
    admin: Run, tmp_path: Path
) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [JWK]}))
    rule = ("--client", "reports", "--claim", "sub=a")
    remote = ("--jwks-uri", "https://ci.example/jwks")

    said = admin("issuer", "create", "later", *remote, *rule).stderr
    assert "Run `identity doctor` on the machine of the service" in said
    again = admin("issuer", "create", "later", *remote, *rule, code=1).stderr
    assert "an issuer with this id exists already" in again
    assert admin("issuer", "create", "at-once", "--jwks", "jwks.json", *rule).stderr == ""
    assert "identity doctor" in admin("issuer", "update", "at-once", *remote).stderr
    assert admin("issuer", "update", "at-once", "--max-age", "60").stderr == ""


@pytest.mark.parametrize(
    ("words", "named", "code"),
    [
        (("--jwks-uri", "http://ci.example/", "--client", "a", "--claim", "x=y"), "jwks_uri", 1),
        (("--client", "a", "--claim", "x=y"), "exactly one", 1),
        (("--jwks-uri", "https://ci.example/"), "rules", 1),
        (("--jwks-uri", "https://a.example", "--jwks-file", "/x"), "give only one of", 2),
        (("--jwks-uri", "https://a.example", "--client", "a"), "--claim", 2),
        (("--jwks-uri", "https://a.example", "--client", "a", "--claim", "x"), "NAME=VALUE", 2),
        (("--jwks-uri", "https://a.example", "--client", "a", "--claim", "x=y", "--claim", "x=z"), "once", 2),
        (("--jwks-uri", "https://a.example", "--rules", "none.json"), "none.json", 2),
        (("--jwks-uri", "https://a.example", "--rules", "bad.json"), "JSON list", 2),
    ],
)
def test_an_issuer_that_cannot_be_is_refused(
    admin: Run, tmp_path: Path, words: tuple[str, ...], named: str, code: int
) -> None:
    (tmp_path / "bad.json").write_text('[{"claim": {}}]')

    assert named in admin("issuer", "create", "https://x.example", *words, code=code).stderr
