"""`python -m identity_service` and the command `identity`."""


def main() -> None:
    # Here, since the processes that hash passwords load this module too, and need nothing of it.
    from identity_service.cli.app import app

    app()


if __name__ == "__main__":
    main()
