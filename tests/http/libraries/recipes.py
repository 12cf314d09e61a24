"""The code of the recipes in docs/integrations.md, adapted to the service of a test.

The module asserts nothing.
"""

from typing import Final

from tests.docs.recipes import sections
from tests.http.libraries.provider import Provider

LANGUAGES: Final = ("python", "js", "go", "java")
RECIPES: Final = {
    heading: blocks for heading, blocks in sections("integrations.md", LANGUAGES).items() if blocks
}
_ISSUER: Final = "https://id.example"
"""The issuer name that stands for the service in docs/integrations.md."""


def recipe(section: str, provider: Provider) -> list[str]:
    """Return the code blocks of a section of docs/integrations.md, with the issuer name of this service."""
    return [block.code.replace(_ISSUER, provider.issuer) for block in RECIPES[section]]
