"""`python -m identity_service` and the command `identity`."""

from identity_service.process.signals import end_on_sigterm_as_init


def main() -> None:
    """Run the command line."""
    end_on_sigterm_as_init()
    # Imported here: the processes that hash passwords load this module too, and do not need the command line.
    from identity_service.cli.app import app

    app()


if __name__ == "__main__":
    main()
