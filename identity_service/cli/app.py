"""The command `identity`: puts the groups of commands together."""

import typer

from identity_service.cli import config, directory, doctor, serve, token, watch

app = typer.Typer(
    name="identity",
    help="Issue, verify, refresh and revoke tokens; run the service and administer it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local values could show a secret
)
app.command("serve")(serve.serve)
app.command("init")(serve.init)
app.command("doctor")(doctor.doctor)
app.command("watch")(watch.watch)
app.add_typer(directory.client_app, name="client")
app.add_typer(directory.user_app, name="user")
app.add_typer(token.app, name="token")
app.add_typer(config.app, name="config")
