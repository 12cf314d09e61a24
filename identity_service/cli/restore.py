"""`identity restore`: restores a backup into a store, and reports the access that is possible again."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from identity_service.cli.backup import held_counts
from identity_service.cli.local_settings import ConfigOption, StoreOption, settings_for_store_admin
from identity_service.cli.options import YesOption
from identity_service.cli.output import JsonFlag, put, show
from identity_service.cli.records import confirm
from identity_service.cli.stopping import stoppable
from identity_service.cli.store_check import check_store
from identity_service.composition import checks, copies
from identity_service.services.regained import Named, Regained

_ADVICE: Final = (
    "Every user must sign in again: no session survives a restore, and every refresh token is refused.",
    "Every access token from before the restore is refused; clients get new ones by themselves.",
    "Passwords and client secrets that were changed after the backup have their old values: rotate them.",
    "Clients and users that were disabled or deleted after the backup are enabled: disable them now.",
    "Records that were created after the backup are missing: create them again. No audit event is kept.",
    "A client assertion, an ID-JAG, or a single-use token of a trusted issuer, that was used after the "
    "backup can be used once more until it expires.",
)
_HEADINGS: Final[Mapping[str, str]] = {
    "enabled": "disabled or deleted after the backup, and enabled again",
    "passwords": "users with an old password",
    "credentials": "clients with old secrets, certificates or public keys",
    "permissions": "clients and users with old audiences, scopes or grants",
    "issuers": "trusted issuers that had been removed or changed",
}


def restore(
    file: Annotated[Path, typer.Argument(help="A backup written by `identity backup`.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="First delete everything in the store.")] = False,
    yes: YesOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Restore a backup into a store, while every process of the service is stopped.

    Nothing that was revoked since the backup becomes valid again: every earlier token is refused, all
    sessions end, every signing key is retired, and a new one is created. Lists which principals,
    credentials and permissions are back, so that you know what to disable and what to rotate.
    """
    with stoppable("the restore was not finished; run the same command again"):
        settings = settings_for_store_admin(config, store)
        check_store(settings)
        with copies.opened_restore(settings, file) as use_case:
            prepared = use_case.prepare(replace=replace)
            made = prepared.contents.manifest
            if replace and prepared.replaces:
                question = f"Delete everything in {checks.store_name(settings)}, and restore the backup of"
                confirm(f"{question} {made.time:%F %T} UTC?", yes=yes)
            restored = use_case.run(prepared)
        manifest = restored.manifest
        values = {
            "backup_time": manifest.time,
            "backup_revision": manifest.revision,
            "signing_key": restored.signing_key,
            **held_counts(restored.counts),
        }
        if as_json:
            more = {"possible_again": _again(restored.regained), "advice": list(_ADVICE)}
            show({**values, "backup_time": manifest.time.isoformat(), **more}, as_json=True)
            return
        show(values, as_json=False)
        lines = ["", f"The restore has brought back from {manifest.time:%F %T} UTC:"]
        lines += [f"  {line}" for line in _regained(restored.regained)]
        lines += ["", "What this means, and what to do:", *(f"  - {line}" for line in _ADVICE)]
        for line in lines:
            put(line)


def _regained(regained: Regained | None) -> Iterator[str]:
    if regained is None:
        yield "all records; there was no earlier store to compare them with"
        return
    found = False
    for name, heading in _HEADINGS.items():
        named: Named = getattr(regained, name)
        if named.count:
            found = True
            more = named.count - len(named.names)
            yield f"{heading}: {', '.join(named.names)}" + (f" and {more:,} more" if more else "")
    if not found:
        yield "nothing that the earlier store did not allow"


def _again(regained: Regained | None) -> dict[str, object] | None:
    """Return the principals, credentials and permissions that are back, for scripts.

    None if there was no earlier store to compare with.
    """
    if regained is None:
        return None
    named: Mapping[str, Named] = {name: getattr(regained, name) for name in _HEADINGS}
    return {name: {"names": list(found.names), "count": found.count} for name, found in named.items()}
