"""`python -m identity_service` and the command `identity`."""

from identity_service.cli.app import app


def main() -> None:
    app()


if __name__ == "__main__":
    main()
