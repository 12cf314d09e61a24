"""What the process that starts Envoy tells the service inside, first of all."""

from dataclasses import dataclass
from typing import Final

from identity_service.settings import Settings

PIPE: Final = "IDENTITY_ENVOY_PIPE"
"""The variable that names the descriptor of the pipe between the two."""
DIRECTORY: Final = "IDENTITY_ENVOY_DIRECTORY"
"""The variable that names the directory of what was written for Envoy, certificates among it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sent through the pipe, so that no other process can read it."""

    settings: Settings
    python: str
    """The interpreter for processes that the service starts: inside Envoy there is none to ask."""
