"""The setting `jwks_servers`: servers that publish keys of trusted issuers, with their CA and token files."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, field_validator, model_validator

from identity_service.domain.urls import is_safe_url, server_of

_SERVER: Final = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?/?")
_FORM: Final = 'must be a list such as [{"url": "https://host:port", "ca_file": "…", "token_file": "…"}]'


class JwksServer(BaseModel):
    """A server that publishes keys, with the authorities of its certificate, a bearer token, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    """The URL of the server: https://host or https://host:port, without a path."""
    ca_file: Path | None = None
    """A PEM file with the authorities of its certificate; None = those of `issuer_ca_file`."""
    token_file: Path | None = None
    """A file with the bearer token for requests to the server; None = no token."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not is_safe_url(value) or not _SERVER.fullmatch(value):
            raise ValueError(
                "must be https://host or https://host:port, without a path (http on loopback only)"
            )
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_files(self) -> "JwksServer":
        if self.ca_file is None and self.token_file is None:
            raise ValueError("must have a ca_file, a token_file or both")
        return self

    def __str__(self) -> str:
        files = (("ca_file", self.ca_file), ("token_file", self.token_file))
        return f"{self.url} ({', '.join(f'{name} {path}' for name, path in files if path)})"


def _read(value: object) -> object:
    """Parse the list if it is JSON text, as in an environment variable."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except ValueError:
            raise ValueError(_FORM) from None
    if not isinstance(value, list | tuple):
        raise ValueError(_FORM)  # noqa: TRY004  # pydantic handles ValueError, not TypeError
    return value


def _check_twice(servers: Sequence[JwksServer]) -> Sequence[JwksServer]:
    found: set[tuple[str, str, int]] = set()
    for server in servers:
        if server_of(server.url) in found:
            raise ValueError(f"{server.url} is listed twice; give it one entry with both files")
        found.add(server_of(server.url))
    return servers


JwksServers = Annotated[tuple[JwksServer, ...], BeforeValidator(_read), AfterValidator(_check_twice)]
