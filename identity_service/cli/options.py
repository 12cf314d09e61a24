"""Options that several commands share, and how they become settings."""

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
    Path | None, typer.Option("--config", help="Settings file. Default: ./identity.toml where it exists.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Store URL: sqlite:///path, redis://host:port/db.")
]
AudienceOption = Annotated[
    list[str] | None, typer.Option("--audience", "-a", help="May be given repeatedly.")
]
ScopeOption = Annotated[list[str] | None, typer.Option("--scope", "-s", help="May be given repeatedly.")]
EncryptOption = Annotated[
    Encryption,
    typer.Option("--encrypt", help="For whom: this service (only verify opens it), or its one audience."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def load(config: Path | None, **flags: object) -> LoadedSettings:
    """The settings with these flags on top. Raises ConfigurationError."""
    loaded = load_settings(flags, config_file=config, environ=os.environ)
    if loaded.settings.untrimmed_master_key() is not None:
        say_trimmed("master_key")
    return loaded


def settings_for_store_admin(config: Path | None, store: str | None) -> Settings:
    """The settings of a command that works on the store directly; it logs warnings only."""
    settings = load(config, store=store).settings
    logs.configure("warning", "console")
    return settings
