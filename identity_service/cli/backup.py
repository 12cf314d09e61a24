"""`identity backup`: a copy of the store in a file, while the service goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from identity_service.cli.options import ConfigOption, StoreOption, settings_for_store_admin
from identity_service.cli.output import JsonFlag, say, show
from identity_service.cli.stopping import stoppable
from identity_service.composition import copies

_NEVER: Final = ("sessions", "audit_events")
"""What no backup holds."""


def held_counts(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Return the counts of what a backup can hold."""
    return {name: count for name, count in counts.items() if name not in _NEVER}


def backup(
    file: Annotated[Path, typer.Argument(help="A new file. An existing one is never overwritten.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a backup of the store into a new file, while the service goes on.

    It holds clients, users, trusted issuers, the sealed keys and all that is revoked, encrypted under the
    master key; it can be restored only with that. It holds no sessions and no audit events.
    """
    with stoppable("no backup was written", as_json=as_json):
        settings = settings_for_store_admin(config, store)
        made = copies.make_backup(settings, file)
        about = {"file": str(file), "time": made.manifest.time, "revision": made.manifest.revision}
        show({**about, "issuer": made.manifest.issuer, **held_counts(made.counts)}, as_json=as_json)
        say("Keep the master key in another place than this file: nothing else opens it.")
