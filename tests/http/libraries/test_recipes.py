"""The Python recipes in docs/integrations.md work, and every other recipe there is run by another module."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import import_key

from tests.http.libraries.provider import Provider
from tests.http.libraries.recipes import RECIPES, recipe
from tests.jwts import PartyKey


def test_the_recipes_for_python_work_in_their_order(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    holder = provider.new_certificate_client()
    shutil.copy(holder.certificate_file, tmp_path / "holder.pem")
    shutil.copy(holder.key_file, tmp_path / "holder.key")
    monkeypatch.chdir(tmp_path)
    _, secret = provider.credentials
    key = PartyKey.make("ES256", "k1")
    provider.new_key_client(key)
    provider.new_public_client()
    monkeypatch.setenv("SSL_CERT_FILE", str(provider.ca_file))
    monkeypatch.setenv("CLIENT_SECRET", secret)
    reader: dict[str, Any] = {"key": import_key(json.loads(key.private_jwk)), "password": provider.password}

    for code in recipe("Python", provider):
        exec(code, reader)  # noqa: S102

    assert reader["claims"]["sub"] == "reports"
    assert reader["session"].token["scope"] == ["read"]


def test_each_section_is_run_by_a_module_of_this_folder() -> None:
    assert set(RECIPES) == {"Python", "Node.js", "Go", "Java", "Spring Security", "OpenTelemetry"}
