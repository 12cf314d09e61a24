"""Reads the file with the secrets of the demo client and user of `identity serve --dev`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEMO_FILE: Final = Path("var/demo.json")
"""The file of the secrets, relative to the working directory."""

DemoSecrets = Mapping[str, str]
"""The ids and secrets of the demo client, the demo user and the administrator."""


def read_demo_secrets() -> DemoSecrets | None:
    """Return the secrets that `serve --dev` wrote; None if the file is missing or is not JSON."""
    try:
        found: DemoSecrets = json.loads(DEMO_FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
