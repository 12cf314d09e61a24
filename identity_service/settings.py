"""The settings of a server process. `config/` has them by subject, and reads them from their sources.

The master keys and the password in the store's URL are secrets, which no `repr` shows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from identity_service.config.jwks_servers import JwksServers
from identity_service.config.keys import KeySettings
from identity_service.config.limits import LimitSettings
from identity_service.config.listeners import ListenerSettings
from identity_service.config.store import StoreSettings
from identity_service.config.tokens import TokenSettings
from identity_service.config.traces import TraceSettings
from identity_service.config.values import mask
from identity_service.config.work import WorkSettings


class Settings(TraceSettings, WorkSettings, KeySettings, TokenSettings, ListenerSettings, StoreSettings):
    """The settings of a server process; immutable and valid as a whole. Each base class is one subject."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    principals_file: Path | None = Field(
        None, description="YAML file: clients, users and trusted issuers that the service keeps as declared"
    )
    issuer_ca_file: Path | None = Field(
        None,
        description="PEM file: authorities of the servers of issuers' keys; default: those of the system",
    )
    jwks_servers: JwksServers = Field(
        (),
        max_length=100,
        description="servers of issuers' keys with their own CA or token: url, ca_file, token_file",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )
    log_format: Literal["json", "console"] = Field("json", description="format of the log on standard error")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        """Report all invalid combinations at once, so that an operator can correct them in one go."""
        if problems := [
            *self._wrong_store(),
            *self._wrong_tokens(),
            *self._wrong_keys(),
            *self._wrong_listeners(),
            *self._wrong_limits(),
            *self._wrong_work(),
        ]:
            raise ValueError("\n".join(problems))
        return self

    def __reduce__(self) -> tuple[Callable[[dict[str, object]], Self], tuple[dict[str, object]]]:
        """Pickle only the values that were set, since the reader may run newer code with further settings."""
        return type(self).model_validate, (self.model_dump(exclude_unset=True),)

    def masked(self) -> dict[str, str]:
        """Return every value as text, with the secrets hidden, for `identity config show`."""
        names = sorted(type(self).model_fields, key=lambda name: name in LimitSettings.model_fields)
        return {name: mask(name, getattr(self, name)) for name in names}
