"""docs/http.md: the probes in its examples call paths and ports that the service serves."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from identity_service.http_api.openapi.description import describe

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the first block in this language on the page."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_probes_ask_at_the_port_of_http_for_paths_that_are_served() -> None:
    settings = tomllib.loads(block("toml"))
    (container,) = yaml.safe_load(block("yaml"))["spec"]["containers"]
    paths: Any = describe(settings["issuer"])["paths"]

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[name]["httpGet"]
        assert "get" in paths[asked["path"]]
        assert settings["http_listen"].endswith(f":{ports[asked['port']]}")
        assert asked["scheme"] == "HTTPS"
