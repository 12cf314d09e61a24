"""The demo accounts of `identity serve --dev`: where they are stored, and how to read them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEMO_ACCOUNTS: Final = Path("var/demo.json")
"""Relative to the working directory."""

Accounts = Mapping[str, str]


def read_accounts() -> Accounts | None:
    """Return the demo accounts that `serve --dev` wrote; None if the file is missing or is not JSON."""
    try:
        accounts: Accounts = json.loads(DEMO_ACCOUNTS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return accounts
