"""`identity clock`: accepts this machine's clock although the store remembers a later time."""

from typing import Annotated

import typer

from identity_service.cli.local_settings import ConfigOption, StoreOption, settings_for_store_admin
from identity_service.cli.options import YesOption
from identity_service.cli.output import JsonFlag, show
from identity_service.cli.records import confirm
from identity_service.composition.store_admin import open_store_admin
from identity_service.domain.audit import AuditEvent, AuditType

app = typer.Typer(help="Accept a clock that was set back.", no_args_is_help=True)


@app.command("accept")
def accept(
    config: ConfigOption = None,
    store: StoreOption = None,
    reason: Annotated[str, typer.Option(help="Reason, recorded in the audit event.")] = "",
    yes: YesOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Accept this machine's clock as right although it is hours behind the time that the store remembers.

    Until then every process refuses to answer, because revocations that were deleted as expired could be
    needed again. Run this only if the time shown is right. Afterwards revoke everything that was issued
    while the clock was ahead: `identity token revoke --everything`.
    """
    settings = settings_for_store_admin(config, store)
    with open_store_admin(settings) as store_admin:
        now, before = store_admin.clock.now(), store_admin.store.log.head().marks.time
        remembered = f"{before:%F %T} UTC" if before is not None else "no time"
        confirm(f"The store remembers {remembered}. Is it {now:%F %T} UTC now?", yes=yes)
        event = AuditEvent.of(
            AuditType.CLOCK_ACCEPTED, reason=reason, remembered=before.isoformat() if before else None
        )
        store_admin.store.accept_clock(now, audit=event)
    show({"remembered": before, "accepted": now}, as_json=as_json)
