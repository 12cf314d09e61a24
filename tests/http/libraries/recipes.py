"""The recipes of docs/integrations.md, changed to use the test's service. The module asserts nothing."""

from typing import Final

from tests.docs.recipes import sections
from tests.http.libraries.provider import Provider

LANGUAGES: Final = ("python", "js", "go", "java")
RECIPES: Final = {
    heading: blocks for heading, blocks in sections("integrations.md", LANGUAGES).items() if blocks
}
_ISSUER: Final = "https://id.example"
"""The URL of the service on the page."""


def recipe(section: str, provider: Provider) -> list[str]:
    """Return the code of each block of a section, with the issuer of the test's service."""
    return [block.code.replace(_ISSUER, provider.issuer) for block in RECIPES[section]]
