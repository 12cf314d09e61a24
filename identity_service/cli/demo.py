"""The files of a trial (`identity serve --dev`), which other commands in its folder find."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEMO_FILE: Final = Path("var/demo.json")
"""The file of the secrets, relative to the working directory."""

MASTER_KEY_FILE: Final = Path("var/master.key")
"""The file of the master key, relative to the working directory."""

TRIAL_DEFAULTS: Final[Mapping[str, object]] = {"http_listen": "127.0.0.1:0"}
"""A trial serves HTTP; which port that is, is decided when the other settings are known to be valid."""

DemoSecrets = Mapping[str, str]
"""The ids and secrets of the demo client, the demo user and the administrator."""


def read_demo_secrets() -> DemoSecrets | None:
    """Return the secrets that `serve --dev` wrote; None if the file is missing or is not JSON."""
    try:
        found: DemoSecrets = json.loads(DEMO_FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
