"""The command `identity`, assembled from its subcommands and groups of commands."""

from importlib import metadata
from typing import Annotated

import typer

from identity_service.cli import (
    apply,
    audit,
    backup,
    client,
    clock,
    config,
    dev_certs,
    doctor,
    exchange,
    issuer,
    key,
    migrate,
    restore,
    serve,
    session,
    token,
    user,
    watch,
)
from identity_service.cli.ids import accept_ids
from identity_service.cli.output import put

app = typer.Typer(
    name="identity",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local values could show a secret
)


def _show_version(wanted: bool) -> None:
    if wanted:
        put(f"identity-service {metadata.version('identity-service')}")
        raise typer.Exit


@app.callback()
def identity(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Issue, verify, refresh and revoke tokens; run the service and administer it."""


app.command("serve")(serve.serve)
app.command("init")(serve.init)
app.command("doctor")(doctor.doctor)
app.command("dev-certs")(dev_certs.dev_certs)
app.command("watch")(watch.watch)
app.command("apply")(apply.apply)
app.command("backup")(backup.backup)
app.command("restore")(restore.restore)
app.command("migrate")(migrate.migrate)
app.add_typer(client.app, name="client")
app.add_typer(user.app, name="user")
app.add_typer(session.app, name="session")
app.add_typer(issuer.app, name="issuer")
token.app.command("exchange")(exchange.exchange)
app.add_typer(token.app, name="token")
app.add_typer(key.app, name="key")
app.add_typer(audit.app, name="audit")
app.add_typer(clock.app, name="clock")
app.add_typer(config.app, name="config")
accept_ids(app)
