"""The settings of commands that work on this machine, and the options that name them."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from identity_service.cli.demo import MASTER_KEY_FILE, TRIAL_DEFAULTS, read_demo_secrets
from identity_service.cli.output import say, say_trimmed
from identity_service.config.sources import LoadedSettings, load_settings
from identity_service.settings import Settings
from identity_service.telemetry import logs

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file. Default: ./identity.toml, if it exists.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Store URL: sqlite:///path, redis://host:port/db.")
]


def load(
    config: Path | None, defaults: Mapping[str, object] = MappingProxyType({}), /, **flags: object
) -> LoadedSettings:
    """Return the settings from all sources.

    Args:
        config: see `load_settings`, also for `defaults`.
        defaults: values in place of the defaults of these settings.
        flags: settings of the command line, which override all others; None = not given.

    Raises ConfigurationError if they are invalid.
    """
    loaded = load_settings(flags, config_file=config, environ=os.environ, defaults=defaults)
    if loaded.settings.untrimmed_master_key() is not None:
        say_trimmed("master_key")
    return loaded


def settings_for_store_admin(config: Path | None, store: str | None) -> Settings:
    """Return the settings of a command that works on the store directly, and log warnings only."""
    logs.configure("warning", "console")
    if (trial := trial_settings(config, store)) is not None:
        say(f"identity: with the master key of the trial in this folder, {MASTER_KEY_FILE}")
        return trial
    return load(config, store=store).settings


def trial_settings(config: Path | None, store: str | None) -> Settings | None:
    """Return the settings that the trial in this folder has (`serve --dev`), without HTTP and its URL.

    None = there is no trial, it has another store, or a master key is set. Raises ConfigurationError.
    """
    demo = read_demo_secrets()
    if demo is None or not MASTER_KEY_FILE.is_file():
        return None
    settings = load(config, TRIAL_DEFAULTS, store=store).settings
    if demo.get("store") != settings.masked()["store"] or settings.master_key or settings.master_key_file:
        return None
    return settings.model_copy(update={"master_key_file": MASTER_KEY_FILE, "http_listen": ""})
