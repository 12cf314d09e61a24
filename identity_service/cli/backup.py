"""`identity backup`: writes a copy of the store to a file while the service keeps running."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from identity_service.cli.local_settings import ConfigOption, StoreOption, settings_for_store_admin
from identity_service.cli.output import JsonFlag, say, show
from identity_service.cli.stopping import stoppable
from identity_service.composition import copies

_EXCLUDED: Final = ("sessions", "audit_events")
"""The kinds of records that a backup never contains."""


def held_counts(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Return the counts of the kinds of records that a backup can contain."""
    return {name: count for name, count in counts.items() if name not in _EXCLUDED}


def backup(
    file: Annotated[Path, typer.Argument(help="File to create. An existing file is never overwritten.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a backup of the store to a new file while the service keeps running.

    The file contains clients, users, trusted issuers, the sealed keys and all revocations, encrypted under
    the master key: it cannot be restored without that key. It contains no sessions and no audit events.
    """
    with stoppable("no backup was written"):
        settings = settings_for_store_admin(config, store)
        made = copies.make_backup(settings, file)
        about = {"file": str(file), "time": made.manifest.time, "revision": made.manifest.revision}
        show({**about, "issuer": made.manifest.issuer, **held_counts(made.counts)}, as_json=as_json)
        say("Keep the master key in another place than this file: without it, the backup cannot be restored.")
