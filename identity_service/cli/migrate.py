"""`identity migrate`: moves a store to another one, with all tokens and sessions."""

from pathlib import Path
from typing import Annotated

import typer

from identity_service.cli.local_settings import ConfigOption, load
from identity_service.cli.output import JsonFlag, say, show
from identity_service.cli.stopping import stoppable
from identity_service.cli.store_check import check_store
from identity_service.composition import checks, copies
from identity_service.domain.errors import ConfigurationError
from identity_service.settings import Settings
from identity_service.telemetry import logs


def migrate(
    from_: Annotated[str, typer.Argument(metavar="FROM", help="URL of the store to copy.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="URL of an empty store.")],
    config: ConfigOption = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Let FROM accept writes again, unless TO has taken over.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Move a store: copy everything from FROM to TO, sessions included, and close FROM to writes for good.

    All tokens and sessions stay valid. The service need not be stopped: from the start of the copy it
    answers UNAVAILABLE (STORE_MOVED) until it is restarted with TO as its store. If the copy fails, FROM
    accepts writes again; if the command is killed, run it again.
    """
    outcome = "nothing was moved; if the service answers STORE_MOVED, run the same with --undo"
    with stoppable(outcome):
        source, target = _settings(config, from_), _settings(config, to)
        names = checks.store_name(source), checks.store_name(target)
        if names[0] == names[1]:
            raise ConfigurationError("FROM and TO are the same store")
        if not undo:
            check_store(target)
        with copies.opened_migration(source, target) as migration:
            if undo:
                lifted = migration.undo()
                show({"store": names[0], "fence_lifted": lifted}, as_json=as_json)
                say(f"{names[0]} accepts writes again." if lifted else f"{names[0]} was not closed.")
                return
            moved = migration.run()
        show({"from": names[0], "to": names[1], **moved.counts}, as_json=as_json)
        if moved.was_finished:
            say("An earlier run had copied everything already: nothing was copied now.")
        say(f"Set the service's store to {names[1]} and restart it. {names[0]} accepts no more writes.")


def _settings(config: Path | None, store: str) -> Settings:
    """Return the settings with this store; for SQLite with durability `local`, since others need Redis."""
    logs.configure("warning", "console")
    embedded = {"durability": "local"} if store.startswith("sqlite:") else {}
    return load(config, store=store, **embedded).settings
