"""Command-line options that several commands share, and the settings that follow from them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from identity_client.requests import Encryption
from identity_service.cli.output import say_trimmed
from identity_service.config.sources import LoadedSettings, load_settings
from identity_service.settings import Settings
from identity_service.telemetry import logs

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file. Default: ./identity.toml, if it exists.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Store URL: sqlite:///path, redis://host:port/db.")
]
AudienceOption = Annotated[
    list[str] | None, typer.Option("--audience", "-a", help="Audience of tokens. Repeatable.")
]
ScopeOption = Annotated[list[str] | None, typer.Option("--scope", "-s", help="Scope of tokens. Repeatable.")]
EncryptOption = Annotated[
    Encryption,
    typer.Option("--encrypt", help="Encrypt for this service (only Verify opens it) or the one audience."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def load(config: Path | None, **flags: object) -> LoadedSettings:
    """Return the settings, overridden by these flags. Raises ConfigurationError if they are invalid."""
    loaded = load_settings(flags, config_file=config, environ=os.environ)
    if loaded.settings.untrimmed_master_key() is not None:
        say_trimmed("master_key")
    return loaded


def settings_for_store_admin(config: Path | None, store: str | None) -> Settings:
    """Return the settings of a command that works on the store directly, and log warnings only."""
    settings = load(config, store=store).settings
    logs.configure("warning", "console")
    return settings
