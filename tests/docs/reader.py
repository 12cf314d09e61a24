"""Follows the recipes of a page against a service. The module asserts nothing."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.recipes import Block
from tests.rpc.world import World

TARGET = "127.0.0.1:50051"
"""The address of the service that the pages use."""


@dataclass(kw_only=True)
class Reader:
    """A reader of a page, who has a shell in an empty folder, an administrator's secret and a service."""

    page: Mapping[str, list[Block]]
    world: World
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def follow(self, section: str) -> list[str]:
        """Run the recipe of a section, and return the tokens that it prints."""
        places = self.places | {TARGET: self.world.target}
        printed = [block.run(self.folder, self._environment(block), places) for block in self.page[section]]
        return [text.splitlines()[-1] for text in printed if text.startswith("eyJ")]

    def _environment(self, block: Block) -> dict[str, str]:
        """Return the environment of a block, with administrator credentials if it creates a record."""
        secret = self.world.admin.credential.client_secret
        admin = {"IDENTITY_CLIENT_ID": secret.client_id, "IDENTITY_CLIENT_SECRET": secret.client_secret}
        return {
            "IDENTITY_TARGET": self.world.target,
            **self.environment,
            **(admin if " create " in block.code else {}),
        }


def claims(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return found
