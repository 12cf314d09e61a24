"""The entry point of `python -m identity_service` and of the command `identity`."""

import os

from identity_service.process.garbage import uncollected
from identity_service.process.signals import end_on_sigterm_as_init


def main() -> None:
    """Run the command line."""
    end_on_sigterm_as_init()
    # gRPC's core would log each failed handshake and each malformed header, also of unknown clients, in lines
    # that are not JSON. It writes them in the threads that serve all connections, which would wait for a
    # reader of the log that hangs.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # pydantic would read the metadata of every installed package for plugins, which then see all settings.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Imported here: a worker process loads this module too, and does not need the command line.
    with uncollected():
        from identity_service.cli.app import app
        from identity_service.cli.output import color_system

    if color_system() is None:
        # Typer imports this module only for help and usage errors, whose colors it sets.
        from typer import rich_utils

        rich_utils.COLOR_SYSTEM = None
    app()


if __name__ == "__main__":
    main()
