"""The first message from the process that starts Envoy to the service inside it."""

from dataclasses import dataclass
from typing import Final

from identity_service.settings import Settings

PIPE: Final = "IDENTITY_ENVOY_PIPE"
"""The environment variable with the file descriptor of the pipe between the two."""
SAMPLES: Final = "IDENTITY_ENVOY_SAMPLES"
"""The environment variable with the file descriptor of the pipe for metrics; absent if nothing reads them."""
DIRECTORY: Final = "IDENTITY_ENVOY_DIRECTORY"
"""The environment variable with the path of Envoy's directory: its configuration and certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of the service. Sent through the pipe, so that no other process can read them."""

    settings: Settings
    python: str
    """The Python interpreter for processes that the service starts; inside Envoy its path is not known."""
    dev: bool = False
    """True if the service runs with `--dev` (see `bootstrap.Service`)."""
