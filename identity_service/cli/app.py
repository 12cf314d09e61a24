"""The command `identity`, assembled from its subcommands and groups of commands.

Only the module of the command that runs is imported: a command that calls a service, such as `identity client
list`, then starts in half the time, since it does not load the server.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

from identity_service.cli.ids import IdCommand
from identity_service.cli.option_groups import with_options
from identity_service.cli.output import failures, put
from identity_service.process.garbage import imported

_COMMANDS: Final = {
    "serve": "serve:serve",
    "init": "serve:init",
    "doctor": "doctor:doctor",
    "dev-certs": "dev_certs:dev_certs",
    "watch": "watch:watch",
    "apply": "apply:apply",
    "backup": "backup:backup",
    "restore": "restore:restore",
    "migrate": "migrate:migrate",
    "client": "client:app",
    "user": "user:app",
    "session": "session:app",
    "issuer": "issuer:app",
    "token": "exchange:app",  # the app of token.py, to which exchange.py adds a command
    "key": "key:app",
    "audit": "audit:app",
    "clock": "clock:app",
    "config": "config:app",
}
"""For each name, in the order of the help, the module in this package and its function or group."""


class _Commands(Mapping[str, Any]):
    """The commands by name; the module of each is imported when the command is looked up."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = _COMMANDS[name].partition(":")
        found = getattr(imported(f"identity_service.cli.{module}"), attribute)
        holder = typer.Typer()
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name)
        else:
            holder.command(name)(found)
        _prepare(holder)
        return get_group(holder).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


def _without_type_of_flags(options: list[Any]) -> list[Any]:
    """Have the help show no type for flags: it would be `<bool>`, although a flag takes no value."""
    for option in options:
        if getattr(option, "is_flag", False):
            option.metavar = ""
    return options


class _Command(IdCommand):
    """A command whose errors are printed, and end it with the exit code of their class."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the arguments and options of the command."""
        return _without_type_of_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with failures(as_json=bool(ctx.params.get("as_json"))):
            return super().invoke(ctx)


def _prepare(app: typer.Typer) -> None:
    """Make every command of the application, and of its groups, a `_Command` with all its options."""
    for command in app.registered_commands:
        command.cls = _Command
        command.callback = command.callback and with_options(command.callback)
    for group in app.registered_groups:
        group.cls = _Subgroup
        if group.typer_instance is not None:
            _prepare(group.typer_instance)


class _Subgroup(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the group."""
        return _without_type_of_flags(super().get_params(ctx))


class _Group(_Subgroup):
    """The group of all commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _Commands()


app = typer.Typer(
    name="identity",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local values could show a secret
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

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
