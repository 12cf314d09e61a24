"""The demo accounts of `identity serve --dev`: where they are kept, and how they are read again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEMO_ACCOUNTS: Final = Path("var/demo.json")

Accounts = Mapping[str, str]


def read_accounts() -> Accounts | None:
    """What `serve --dev` has written in this folder, if it has."""
    try:
        accounts: Accounts = json.loads(DEMO_ACCOUNTS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return accounts
